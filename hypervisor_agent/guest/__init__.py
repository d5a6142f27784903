"""The tiny guest image that chronova ships the recipe of: one self-booting qcow2 made from Debian packages.

It needs 96 MiB of memory, boots in a few seconds without hardware virtualisation, and tells on its serial console
what it found, so that a test can look inside: see `build`.
"""
