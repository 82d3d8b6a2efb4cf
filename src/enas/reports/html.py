"""This module writes pages. A value enters HTML only through `fill`, which escapes it. A page needs
nothing else: no script and no network.

A value that is HTML already is `Markup`. Every `str` is text, wherever it came from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from markupsafe import Markup

STYLE = """
:root{color-scheme:light dark;--ink:#1c2127;--soft:#5b6470;--ground:#fff;--card:#f4f5f7;--line:#dfe3e8;--blue:#0067a3;
--warn:#fff0cf;--good:#00815f;--bad:#b3401f}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ed;--soft:#a4adb8;--ground:#14181d;--card:#1e242b;--line:#343c46;
--blue:#6db9ea;--warn:#43330f;--good:#3dbb95;--bad:#ef8a68}}
*{box-sizing:border-box}p{margin:.6rem 0}.soft{color:var(--soft);font-size:.875rem}
body{margin:0;background:var(--ground);color:var(--ink);font:1rem/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:64rem;margin:auto;padding:1.5rem 1rem 4rem}
h1{font-size:1.9rem;line-height:1.2;margin:.5rem 0;overflow-wrap:anywhere}
h2{font-size:1.3rem;margin:2.8rem 0 .8rem;padding-top:.8rem;border-top:1px solid var(--line)}
code,pre{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:.875em;background:var(--card)}
code{padding:.1em .35em;border-radius:4px;overflow-wrap:anywhere}
td code,th code{white-space:nowrap;background:none;padding:0}
pre{padding:.8rem 1rem;border-radius:8px;overflow-x:auto;line-height:1.45}
.note,.warning{background:var(--card);border-left:4px solid var(--blue);padding:.6rem .9rem;border-radius:0 8px 8px 0}
.warning{background:var(--warn);border-color:#b87700}.note code{background:var(--ground)}
.verdict,.tiles,.grid{display:grid;gap:1rem;grid-template-columns:repeat(auto-fit,minmax(min(100%,22rem),1fr))}
.verdict{border-left:6px solid var(--soft);background:var(--card);border-radius:0 10px 10px 0;padding:.6rem 1rem 1rem}
.verdict.better{border-color:var(--good)}.verdict.worse{border-color:var(--bad)}
.says{font-size:1.5rem;font-weight:650;line-height:1.3;text-wrap:balance}.says::first-letter{text-transform:uppercase}
.one{max-width:34rem}
.tiles p{margin:0;background:var(--card);border-radius:10px;padding:.8rem 1rem}.tiles b{display:block;font-size:2rem}
figure{margin:0;background:#fff;color:#1c2127;border:1px solid var(--line);border-radius:10px;padding:.8rem;min-width:0}
figcaption{font-size:.9rem;margin-bottom:.4rem}figcaption code{background:none;padding:0}
figure>svg{width:100%;height:auto;stroke-linejoin:round}figure>svg text{font-family:system-ui,sans-serif!important}
.drawing{display:flex;flex-wrap:wrap;justify-content:space-around}.drawing svg{min-width:calc(var(--w)*.6pt)}
.drawing div{flex:var(--w) 1 calc(var(--w)*.75pt);max-width:calc(var(--w)*1pt);min-width:0;overflow-x:auto}
.shared{background:#fff0cf;color:#6b4500;border-radius:4px;padding:.1em .4em;font-size:.75rem;white-space:nowrap}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:.925rem;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:.35rem .9rem .35rem 0;border-bottom:1px solid var(--line);vertical-align:bottom}
.bar{display:inline-block;width:5rem;height:.6rem;border-radius:3px;
background:linear-gradient(to right,var(--blue) var(--share),var(--line) var(--share))}
th[scope=row]{font-weight:400}th details{margin:0}details{margin:.8rem 0}summary{cursor:pointer;color:var(--blue)}
"""


POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'"


def fill(template: str, **values: object) -> Markup:
    """Returns a template, which is HTML, with values in its `{places}`. Text is escaped, and
    `Markup` stays as it is."""
    return Markup(template).format(**values)


def each(template: str, values: Iterable[object]) -> Markup:
    """Returns a template with one place, `{}`, filled once per value."""
    return Markup("").join(Markup(template).format(value) for value in values)


def table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> Markup:
    """Returns a table, in which the first cell of a row names the row."""
    html = each('<th scope="col">{}</th>', names)
    for first, *rest in rows:
        html += fill('</tr>\n<tr><th scope="row">{first}</th>', first=first) + each("<td>{}</td>", rest)
    return fill('<div class="wide"><table><tr>{html}</tr></table></div>\n', html=html)


def document(title: str, body: Markup, style: str = "") -> str:
    """Returns a whole page. `style` is more CSS."""
    return fill(
        """<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>\n<style>{style}</style>\n</head>\n<body><main>\n{body}</main></body>\n</html>\n""",
        policy=Markup(POLICY),
        title=title,
        style=Markup(STYLE + style),
        body=body,
    )
