# SPDX-License-Identifier: GPL-2.0-only
"""Conversions as a series of patches that a person reviews and sends.

One direction: `repository` reads the user's and writes to another one, `steps`
has the drivers converted, `build` and `proof` find out what a patch can be
trusted with, `wording` says it, `mails` and `preview` write it down, `command`
has them work in turn.
"""
