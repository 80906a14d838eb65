#!/usr/bin/env bash
# ipykernel 7.4.0 with pyzmq 27.3.0: messages of a fast cell are dropped, for a front end that reads all the time too.
#
# A kernel publishes outputs, comm messages and its status on one PUB socket, and ZeroMQ lets a thousand messages wait on
# each side of the connection unless it is set otherwise, which neither ipykernel nor jupyter_client does. A PUB socket
# whose queue is full drops what comes then, without an error on either side and whatever the message is: a cell whose
# updates outrun its front end for a moment has gaps in them, and the next `status: idle` may be among what is missing,
# so that a front end waits for the end of a cell that has ended. A front end that sets `rcvhwm` of its context to 0
# before it connects loses fewer; the limit on the kernel's side stays.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/python -m pip install --quiet ipykernel==7.4.0 pyzmq==27.3.0 jupyter_client==8.10.0
cat >front_end.py <<'P'
import os
import sys

import zmq
from jupyter_client.manager import KernelManager

SENT = 100_000
CELL = f"""
session, socket = get_ipython().kernel.session, get_ipython().kernel.iopub_socket
for number in range({SENT}):
    session.send(socket, "comm_msg", {{"comm_id": "demo", "data": number}})
"""
os.environ["JUPYTER_DATA_DIR"] = os.environ["IPYTHONDIR"] = os.getcwd()
context = zmq.Context()
if sys.argv[1] == "unlimited":
    context.rcvhwm = 0
manager = KernelManager(context=context)
manager.start_kernel()
client = manager.client()
client.start_channels()
client.wait_for_ready(timeout=60)
received = 0
request = client.execute(CELL)
while client.iopub_channel.socket.poll(10_000):  # reads from the start, until nothing has come for a while
    received += client.get_iopub_msg(timeout=60)["msg_type"] == "comm_msg"
print(sys.argv[1], "all of them" if received == SENT else "some are missing")
client.stop_channels()
manager.shutdown_kernel(now=True)
P
env/bin/python front_end.py default 2>/dev/null | tee seen
env/bin/python front_end.py unlimited 2>/dev/null | tee -a seen
diff seen - <<'P'
default some are missing
unlimited some are missing
P
