"""The report as one HTML page, with everything in it: style, pictures, and the raw figures as JSON."""

import html
import json

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --card: #f7f8fa; --ink: #1c2230; --soft: #5c6678; --line: #dde1e8;
  --band: #eceff4; --good: #1a7f4b; --bad: #c0332b; --warn: #9a6200;
  --c0: #2a6fdb; --c1: #12877a; --c2: #c4611a; --c3: #a3327e; --c4: #6a55c9; --c5: #7a7f1c; --c6: #b3372f; --c7: #5c6678; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171d; --card: #1c2029; --ink: #e6e9ef; --soft: #98a2b3;
  --line: #323845; --band: #232833; --good: #57c98b; --bad: #ff8078; --warn: #e3b341;
  --c0: #6ea8ff; --c1: #4fd0bf; --c2: #ff9f5a; --c3: #ee7fc4; --c4: #ab9bff; --c5: #cdd05a; --c6: #ff8078; --c7: #98a2b3; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1240px; padding: 28px 20px 60px; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { font-size: 24px; margin: 0 0 4px; } h2 { font-size: 19px; margin: 40px 0 4px; } p { margin: 4px 0 12px; }
.soft, .note { color: var(--soft); } .note { font-size: 13px; margin: 4px 0 0; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 460px), 1fr)); gap: 14px; margin: 14px 0; }
figure { margin: 0; padding: 12px 14px; background: var(--card); border: 1px solid var(--line); border-radius: 8px; }
figcaption { display: flex; justify-content: space-between; gap: 12px; } .unit { color: var(--soft); font-size: 13px; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 14px; font-size: 13px; color: var(--soft); min-height: 20px; }
.key { display: inline-block; width: 16px; height: 0; border-top: 3px solid; vertical-align: middle; margin-right: 5px; }
.key.dashed { border-top-style: dashed; }
svg { width: 100%; height: auto; display: block; } svg text { font-size: 11px; fill: var(--soft); font-family: inherit; }
svg .tiny { font-size: 10px; } .grid { stroke: var(--line); } .axis { stroke: var(--soft); }
.level { stroke: var(--soft); stroke-dasharray: 3 4; } .band { fill: none; } .band.b0 { fill: var(--band); }
.line { fill: none; stroke: currentColor; stroke-width: 2; stroke-linejoin: round; } .dashed { stroke-dasharray: 5 4; }
.dot { fill: currentColor; stroke: currentColor; } .dot.hollow { fill: var(--card); stroke-width: 1.8; }
.c0 { color: var(--c0); } .c1 { color: var(--c1); } .c2 { color: var(--c2); } .c3 { color: var(--c3); }
.c4 { color: var(--c4); } .c5 { color: var(--c5); } .c6 { color: var(--c6); } .c7 { color: var(--c7); }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 14px; width: 100%; }
th { color: var(--soft); font-weight: 500; text-align: right; } td { text-align: right; }
th, td { padding: 4px 10px; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child, th.text, td.text { text-align: left; }
tr.doubt td { color: var(--soft); font-style: italic; }
ul.remarks { margin: 8px 0; padding-left: 20px; font-size: 14px; } .is-client b, .is-noise b { color: var(--warn); }
.is-server b { color: var(--bad); } .is-note { color: var(--soft); }
tr.ok td:nth-child(2) { color: var(--good); } tr.bad td:nth-child(2) { color: var(--bad); font-weight: 600; }
tr.unclear td:nth-child(2) { color: var(--warn); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 16px; font-size: 14px; margin: 12px 0; }
dt { color: var(--soft); } dd { margin: 0; }
@media print { body { max-width: none; } figure { break-inside: avoid; } }
"""


def text(value):
    return html.escape(str(value))


def facts(pairs):
    return "<dl>%s</dl>" % "".join("<dt>%s</dt><dd>%s</dd>" % (text(a), text(b)) for a, b in pairs)


def table(header, rows, classes=None, texts=()):
    """`texts`: which columns are words rather than figures. `classes`: of each row."""
    classes = classes or [""] * len(rows)

    def line(tag, cells, name=""):
        return "<tr%s>%s</tr>" % (" class='%s'" % name if name else "", "".join(
            "<%s%s>%s</%s>" % (tag, " class='text'" if i in texts else "", text(cell), tag) for i, cell in enumerate(cells)))
    return "<div class='wide'><table><thead>%s</thead><tbody>%s</tbody></table></div>" % (
        line("th", header), "".join(line("td", row, name) for row, name in zip(rows, classes)))


def remarks(items):
    """(class, who, sentence) each."""
    lines = ["<li class='is-%s'><b>%s</b> %s</li>" % (kind, text(who), text(sentence)) for kind, who, sentence in items]
    return "<ul class='remarks'>%s</ul>" % "".join(lines) if lines else ""


def charts(list_of_charts):
    return "<div class='charts'>%s</div>" % "\n".join(c.figure() for c in list_of_charts if not c.is_empty())


def page(title, body, figures):
    """`figures` go along as JSON, so that the page alone is enough to compare with later ones."""
    raw = json.dumps(figures, separators=(",", ":")).replace("</", "<\\/")
    return ("<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'>"
            "<meta name='viewport' content='width=device-width, initial-scale=1'><title>%s</title><style>%s</style></head>\n"
            "<body>\n%s\n<script type='application/json' id='figures'>%s</script>\n</body></html>\n"
            % (text(title), STYLE, body, raw))
