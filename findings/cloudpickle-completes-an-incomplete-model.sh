#!/usr/bin/env bash
# cloudpickle 3.1.3 with pydantic 2.14.4: the copy of a model that is not complete yet claims to be complete.
#
# A model of a script or notebook that names a class which is defined later is incomplete: pydantic gives it
# `__pydantic_complete__` False and a placeholder in place of the validator, which builds the model at the first use.
# cloudpickle copies a class in two steps: an empty class of the same metaclass, then its attributes, but for those that
# are the very objects that a base has too. An empty model is complete, and BaseModel itself has False: so the copy
# keeps True, together with the placeholder. At its first use the placeholder asks the model to build itself, is told
# that there is nothing to build, and asks itself once more: RecursionError, where the original works.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/python -m pip install --quiet cloudpickle==3.1.3 pydantic==2.14.4
cat >original.py <<'P'
import cloudpickle
import pydantic


class Box(pydantic.BaseModel):
    size: int
    content: "Content | None" = None


with open("box.pickle", "wb") as file:
    cloudpickle.dump(Box, file)
print("original", Box.__pydantic_complete__)


class Content(pydantic.BaseModel):
    weight: float


print("original", Box(size=1, content={"weight": 2}))
P
cat >copy_of_it.py <<'P'
import pickle

import pydantic

with open("box.pickle", "rb") as file:
    Box = pickle.load(file)
print("copy", Box.__pydantic_complete__)


class Content(pydantic.BaseModel):
    weight: float


try:
    print("copy", Box(size=1, content={"weight": 2}))
except RecursionError as error:
    print("copy", type(error).__name__)
P
env/bin/python original.py | tee seen
env/bin/python copy_of_it.py | tee -a seen
diff seen - <<'P'
original False
original size=1 content=Content(weight=2.0)
copy True
copy RecursionError
P
