"""plot.py - the figures as an SVG of plain bars, a group for each figure: the longest bar of a group is the best in it."""
import html

from table import OPPONENTS, number, rows_of

COLOURS = {"vlmd": "#2b6cb0", "llama.cpp": "#a0aec0", "transformers": "#d69e2e"}
LEFT, BAR, WIDTH, LINE = 190, 360, 720, 17


def bar(y, name, value, text, share):
    return (f'<rect x="{LEFT}" y="{y}" width="{max(1, share * BAR):.0f}" height="{LINE - 4}" fill="{COLOURS[name]}"/>'
            f'<text x="{LEFT + max(1, share * BAR) + 6:.0f}" y="{y + 10}">{html.escape(name)} {text}</text>')


def group(y, row):
    """(lines, y below)"""
    times = row["unit"] in ("ms", "s", "GB")
    values = {"vlmd": row["vlmd"], **row["peers"]}
    values = {name: v for name, v in values.items() if v}
    if not values:
        return [], y
    longest = max(1 / v if times else v for v in values.values())
    out = [f'<text x="{LEFT - 8}" y="{y + 10}" text-anchor="end">{html.escape(row["figure"])}</text>']
    for name, v in values.items():
        speed = 1 / v if times else v
        out.append(bar(y, name, v, f"{number(v, row['factor'])} {row['unit']}", speed / longest))
        y += LINE
    return out, y + 8


def svg(report):
    y, body = 44, []
    for dtype in report["dtypes"]:
        rows = [r for r in rows_of(dtype, report) if r["vlmd"]]
        if not rows:
            continue
        against = ", ".join(f"{e} {d}" for e, d in OPPONENTS[dtype] if e in report["peers"])
        body.append(f'<text x="12" y="{y + 8}" font-weight="bold">vlmd {dtype} and {html.escape(against)}</text>')
        y += 22
        for row in rows:
            lines, y = group(y, row)
            body += lines
        y += 10
    title = (f"LLaVA-1.5 {report['shape'].upper()} on {report['cpu']}, {report['threads']} threads: "
             "a longer bar is better")
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" font-family="sans-serif" '
            f'font-size="11"><rect width="100%" height="100%" fill="white"/>'
            f'<text x="12" y="22" font-size="14">{html.escape(title)}</text>\n' + "\n".join(body) + "\n</svg>\n")
