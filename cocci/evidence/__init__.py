# SPDX-License-Identifier: GPL-2.0-only
"""What the rules ask about a driver before they rewrite it.

SmPL finds the sites and rewrites them; this package decides whether a site
may be rewritten.  Standard library only: it runs inside spatch.
"""
