# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Says at a login that TDX will not come up at the next boot, or may not; nothing where all is well, or without TDX.
# To turn it on: ln -s /usr/share/tdx-headroom/motd/tdx-headroom.sh /etc/profile.d/
#
# Login shells read it, so that it runs as the user, with what that user may read. Scripts of /etc/update-motd.d run as
# root, at every login and before it is done. It takes at most 2 s. What cannot be told is said to root alone: others
# may often not read enough to tell.
case $- in
  *i*)
    if command -v tdx-headroom >/dev/null && command -v timeout >/dev/null; then
      tdx_headroom_status=0
      tdx_headroom_said=$(
        # Of the shell, too, which says when a command was killed.
        exec </dev/null 2>/dev/null
        timeout -k 0.2 1.7 tdx-headroom boots --brief
        exit $?
      ) || tdx_headroom_status=$?
      case ${tdx_headroom_said:+$tdx_headroom_status}:$(id -u) in
        [12]:* | 3:0) printf '%s\n' "$tdx_headroom_said" ;;
      esac
      unset tdx_headroom_status tdx_headroom_said
    fi
    ;;
esac
