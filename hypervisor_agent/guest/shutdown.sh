#!/bin/busybox sh
# The guest agent and people call this: shutdown -h|-P|-r ...; and the power button without arguments.
case " $* " in *" -r "*) kill -TERM 1 ;; *) kill -USR2 1 ;; esac
