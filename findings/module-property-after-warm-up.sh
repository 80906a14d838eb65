#!/usr/bin/env bash
# CPython 3.14 and 3.15: a property of a module's class is ignored once the code that reads it is warm.
#
# The language reference ("Customizing module attribute access") has modules get properties by a subclass that is assigned
# to `__class__`. A property comes before an item of the same name in the module's dict: the first reads return the
# property's value. After some calls the interpreter has specialized the attribute access, and the same line returns the
# item of the dict. 3.13 and before return the property's value each time.
#
# Source: CPython gh-156399, open. Packages: python3.14 of Debian's unstable suite (seen with 3.14.10) with the libraries
# that it needs, unpacked into a temporary folder and run by the loader that comes with them. Compared with the python3
# on the path (seen: 3.11.7).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null |
    sed -nE 's/^(deb (\[[^]]*\] )?|URIs: *)([^ ]+).*/\3/p' | head -n 1)
mkdir -p lists/partial cache/archives/partial
echo "deb $mirror sid main" >sources
apt() {
    apt-get -qq -o APT::Sandbox::User=root -o Dir::Etc::sourcelist="$folder/sources" -o Dir::Etc::sourceparts=- \
        -o Dir::State::lists="$folder/lists" -o Dir::Cache="$folder/cache" "$@"
}
apt update
apt download python3.14-minimal libpython3.14-minimal libc6 zlib1g libexpat1 >/dev/null
for package in *.deb; do dpkg-deb -x "$package" unpacked; done
cat >read.py <<'P'
import sys, types
module = types.ModuleType("module")
module.x = "dict"
class WithProperty(types.ModuleType):
    x = property(lambda self: "property")
module.__class__ = WithProperty
def read():
    return module.x
values = [read() for _ in range(100)]
print(sys.version.split()[0], "first:", values[0], "last:", values[-1])
P
libraries=$(find "$folder/unpacked" -name 'libc.so.6' -printf '%h\n' | head -n 1)
all=$(find "$folder/unpacked" -name '*.so*' -printf '%h\n' | sort -u | tr '\n' ':')
new=$(PYTHONHOME="$folder/unpacked/usr" "$libraries"/ld-linux-*.so.* --library-path "$all" unpacked/usr/bin/python3.14 read.py)
old=$(python3 read.py)
printf '%s\n' "$new" "$old"
case $new in 3.14.*" first: property last: dict") ;; *) exit 1 ;; esac
case $old in 3.1[123].*" first: property last: property") ;; *) exit 1 ;; esac
