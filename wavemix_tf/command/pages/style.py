"""Style sheet and frame of the pages."""

from __future__ import annotations

from ...page_style import PALETTE_CSS

CSS = (
    PALETTE_CSS
    + """\
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.55 var(--font);-webkit-text-size-adjust:100%}
main{max-width:1120px;margin:0 auto;padding:32px 20px 64px}
header{margin:8px 0 28px}
h1{font-size:clamp(2rem,6vw,3.1rem);line-height:1.1;letter-spacing:-.025em;margin:.1em 0 .25em;overflow-wrap:anywhere}
h2{font-size:1.2rem;letter-spacing:-.01em;margin:0 0 4px}
h3{font-size:1.05rem;margin:0;display:flex;align-items:center;gap:8px}
h4{font-size:.72rem;letter-spacing:.08em;text-transform:uppercase;color:var(--muted);margin:18px 0 6px}
.kicker{font-size:.78rem;letter-spacing:.09em;text-transform:uppercase;color:var(--accent);font-weight:600;margin:0}
.facts,.note{color:var(--muted);margin:0}
.note{font-size:.9rem;margin-bottom:16px}
.loose{margin-left:2px}
h2.loose{margin-top:36px}
code,pre{font-family:var(--mono);font-size:.88em}
.command{margin:16px 0 0;padding:10px 14px;background:var(--card);border:1px solid var(--line);border-radius:10px;
overflow-x:auto}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin-top:20px}
.tile{background:var(--card);border:1px solid var(--line);border-top:3px solid var(--accent);border-radius:12px;
padding:12px 16px}
.tile.float{border-top-color:var(--float)}.tile.int8{border-top-color:var(--int8)}
.tile span,.tile small{display:block;color:var(--muted);font-size:.8rem}
.tile strong{font-size:1.55rem;letter-spacing:-.02em;font-variant-numeric:tabular-nums;white-space:nowrap}
.card{background:var(--card);border:1px solid var(--line);border-radius:14px;padding:22px 24px;margin-bottom:18px;
min-width:0}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr));gap:18px;margin-bottom:18px}
.grid .card{margin:0}
figure{margin:0}
figure svg{display:block;width:100%;height:auto}
.scroll{overflow-x:auto;margin:0 -24px;padding:0 24px}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:.95rem}
th,td{padding:10px 12px;text-align:left;white-space:nowrap;border-top:1px solid var(--line)}
thead th{border-top:0;color:var(--muted);font-weight:500;font-size:.82rem;padding-top:0}
th:first-child,td:first-child{padding-left:0}th:last-child,td:last-child{padding-right:0}
tbody th{font-weight:600}
.n{text-align:right}
.bar{display:block;height:3px;border-radius:2px;margin-top:4px;background:var(--float);width:var(--share);
margin-left:auto}
.bar.int8{background:var(--int8)}
.dot{display:inline-block;width:.62em;height:.62em;border-radius:50%;background:var(--float);margin-right:.5em;
flex:none}
.dot.int8{background:var(--int8)}
h3 .dot{margin-right:0}.note .dot{margin:0 .3em 0 .5em}
.badge{margin-left:auto;font-size:.76rem;font-weight:600;padding:2px 9px;border-radius:99px;
border:1px solid currentColor;color:var(--float)}
.badge.int8{color:var(--int8)}
.path{margin:2px 0 12px;color:var(--muted);overflow-wrap:anywhere}
dl{display:grid;grid-template-columns:fit-content(60%) minmax(7ch,1fr);gap:3px 16px;margin:0;font-size:.9rem}
dt{color:var(--muted)}dd{margin:0;overflow-wrap:anywhere;font-variant-numeric:tabular-nums}
.checks{list-style:none;margin:0;padding:0;font-size:.9rem}
.checks li{padding:2px 0 2px 1.6em;position:relative}
.checks li::before{position:absolute;left:0;content:"✓";color:var(--good);font-weight:700}
.checks li.fail::before{content:"✗";color:var(--bad)}
.checks b{font-weight:600}.checks small{color:var(--muted);font-size:.92em}
.ops{list-style:none;display:flex;flex-wrap:wrap;gap:6px;margin:0;padding:0;font:.76rem var(--mono)}
.ops li{border:1px solid var(--line);border-radius:6px;padding:2px 7px;color:var(--muted)}.ops b{color:var(--ink)}
.wavelet{display:grid;grid-template-columns:minmax(0,1fr) minmax(0,1.7fr);gap:24px;align-items:center}
.wavelet img,.thumbs img{image-rendering:pixelated;display:block;width:100%;height:auto}
.wavelet span{display:block;font-size:.84rem;color:var(--muted);margin-top:5px;text-align:center}
.wavelet b{color:var(--ink)}
.wavelet img{border:1px solid var(--line);border-radius:6px}
.bands{display:grid;grid-template-columns:1fr 1fr;gap:14px}
.thumbs{display:grid;grid-template-columns:repeat(auto-fill,minmax(76px,1fr));gap:14px}
.thumbs img{border-radius:6px;border:1px solid var(--line)}
.thumbs figcaption{font-size:.86rem;text-align:center;margin-top:3px;overflow-wrap:anywhere}
.thumbs span{color:var(--int8)}.thumbs small{display:block;color:var(--muted)}
.pictures .row{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,220px),1fr));gap:12px;
margin-bottom:14px}
.pictures img{display:block;width:100%;height:auto;border-radius:6px}
.pictures figcaption{font-size:.84rem;color:var(--muted);margin-top:3px}
.legend{display:flex;flex-wrap:wrap;gap:4px 16px;font-size:.86rem;margin:0}
.matrix td,.matrix tbody th{vertical-align:top}
.matrix small,.matrix .mark span{display:block}.matrix small{color:var(--muted)}
.mark{display:block;position:relative;padding-left:1.35em}
.mark::before{position:absolute;left:0;font-weight:700}
.mark.pass::before{content:"✓";color:var(--good)}
.mark.fail::before{content:"✗";color:var(--bad)}.mark.fail b{color:var(--bad)}
.layers svg{min-width:700px}.layers{margin-bottom:14px}
.per-op{align-self:start}.per-op figure{margin-bottom:8px}.per-op summary{font-size:.9rem}
.compact thead th,.compact td{white-space:normal}.compact thead th{vertical-align:bottom}
.unbroken{white-space:nowrap}.compact th,.compact td{padding-left:7px;padding-right:7px}
.small{font-size:.84rem}.small th,.small td{padding-top:5px;padding-bottom:5px}
.provenance{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,300px),1fr));gap:14px 32px;
margin:10px 0 16px}
summary{cursor:pointer;font-weight:600;margin-bottom:6px}
.remarks{font-size:.9rem;color:var(--muted);margin:14px 0 0;padding-left:1.2em}.remarks b{color:var(--ink)}
tr.failed th,tr.failed td{color:var(--muted)}
@media(max-width:560px){main{padding:20px 14px 40px}.card{padding:18px 16px}.scroll{margin:0 -16px;padding:0 16px}
.tiles{grid-template-columns:1fr 1fr;gap:10px}
.tile strong{font-size:1.3rem}.tile:last-child:nth-child(odd){grid-column:1/-1}
table,tbody{display:block}thead{display:none}tbody tr{display:grid;grid-template-columns:1fr 1fr 1fr;gap:2px 12px;
padding:12px 0;border-top:1px solid var(--line)}
tbody tr:first-child{border-top:0;padding-top:0}tbody th{grid-column:1/-1}th,td{border:0;padding:0;
white-space:normal}.n{text-align:left}.bar{margin-left:0}
td.empty{display:none}td[data-label]::before{content:attr(data-label);display:block;color:var(--muted);font-size:.74rem}}
@media print{body{background:#fff}.card,.tile{break-inside:avoid}}
"""
)


def page(title: str, content: str) -> str:
    """Return one HTML document without external references.

    Args:
        title: Plain text, already escaped.
        content: Markup of the page body.
    """
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{title} · wavemix-tf</title>\n<style>{CSS}</style>\n</head>\n"
        f"<body>\n<main>\n{content}\n</main>\n</body>\n</html>\n"
    )
