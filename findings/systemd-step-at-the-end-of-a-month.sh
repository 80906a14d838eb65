#!/usr/bin/env bash
# systemd 252: an hour step that does not divide the day skips the first midnight of each month.
#
# `systemd-analyze calendar '*-*-* 00/5:00:00 UTC'` fires at 00, 05, 10, 15 and 20 o'clock, but after 20:00 on the last day
# of a month it continues at 05:00: 00:00 of the first day is left out. Other midnights are there, and so are all of them
# with the same hours as a list. A timer translated from cron's `0 */5 * * *` with a step misses twelve runs a year.
#
# Package: systemd 252.39-1~deb12u2 of Debian 12, unpacked into a temporary folder.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
apt-get -o APT::Sandbox::User=root download -q systemd=252.39-1~deb12u2 >/dev/null
dpkg-deb -x systemd_*.deb unpacked
next() {
    LC_ALL=C TZ=UTC LD_LIBRARY_PATH="$folder/unpacked/lib/systemd:$folder/unpacked/usr/lib/systemd" \
        unpacked/usr/bin/systemd-analyze calendar --base-time='2026-11-30 19:00:00 UTC' --iterations=2 "$1" |
        sed -nE 's/.*(Next elapse|Iter\. #2): \w+ (\S+ \S+) UTC/\2/p' | tail -n 1
}
step=$(next '*-*-* 00/5:00:00 UTC')
list=$(next '*-*-* 00,05,10,15,20:00:00 UTC')
echo "after 20:00, as a step: $step"
echo "after 20:00, as a list: $list"
inside=$(LC_ALL=C TZ=UTC LD_LIBRARY_PATH="$folder/unpacked/lib/systemd:$folder/unpacked/usr/lib/systemd" \
    unpacked/usr/bin/systemd-analyze calendar --base-time='2026-12-10 19:00:00 UTC' --iterations=2 '*-*-* 00/5:00:00 UTC' |
    sed -nE 's/.*(Next elapse|Iter\. #2): \w+ (\S+ \S+) UTC/\2/p' | tail -n 1)
echo "after 20:00 within a month, as a step: $inside"
[ "$inside" = '2026-12-11 00:00:00' ] && [ "$step" = '2026-12-01 05:00:00' ] && [ "$list" = '2026-12-01 00:00:00' ]
