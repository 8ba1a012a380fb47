#!/bin/sh
# What somebody who logs in over ssh wants to know first.
zh=0
case ${LC_ALL:-${LANG:-}} in zh*) zh=1 ;; esac
if [ $zh = 1 ]; then
    printf '\n  丹青 Danqing\n  用户 admin，密码：      sudo cat /root/danqing-password\n  状态与启动报告：        danqing box status   sudo danqing box report\n  检查与帮助：            sudo danqing box doctor\n\n'
else
    printf '\n  Danqing 丹青\n  user admin, password:   sudo cat /root/danqing-password\n  how it is:              danqing box status   sudo danqing box report\n  what is wrong:          sudo danqing box doctor\n\n'
fi
