"""Colors and fonts of every page: of the command's reports and of a kit's page for browsers."""

from __future__ import annotations

PALETTE_CSS = """
:root{--page:#f6f5f1;--card:#fff;--ink:#1c2431;--muted:#626c7c;--line:#e3e1da;--float:#2c6cb0;--int8:#d4602a;
--accent:#1f8a70;
--good:#1f8a70;--bad:#c0392b;--font:Inter,system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;
--mono:ui-monospace,"SF Mono",Menlo,Consolas,"Liberation Mono",monospace}
@media(prefers-color-scheme:dark){:root{--page:#10131a;--card:#181c25;--ink:#e9ecf2;--muted:#9aa4b4;--line:#2b313d;
--float:#6aa9e6;
--int8:#f08c58;--accent:#4cc2a3;--good:#4cc2a3;--bad:#ef7b6d}}
"""
