"""This machine as a box: first boot, prefetch, warm-up, health, logs, backup. Knows systemd and disks; knows no requests."""
