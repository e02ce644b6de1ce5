"""Domains served by Caddy (2.6 or later), driven over its admin API on a unix socket."""
