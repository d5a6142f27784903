#!/bin/busybox sh
# user:password lines on standard input (-e: already hashed), as the guest agent calls it; busybox-static has none.
while IFS=: read -r user password; do
    [ "$1" = -e ] || password=$(echo "$password" | mkpasswd -m sha512 -P 0)
    grep -q "^$user:" /data/etc/shadow || { echo "no user $user" >&2; exit 1; }
    USER_NAME=$user HASH=$password awk -F: -v OFS=: '$1 == ENVIRON["USER_NAME"] { $2 = ENVIRON["HASH"] } { print }' \
        /data/etc/shadow >/data/etc/shadow.new && mv /data/etc/shadow.new /data/etc/shadow
done
sync
