"""Bars for the wall time of each contestant, as an SVG that a page can show in the light and in the dark."""

WIDTH, LABEL, ROOM, ROW, GAP, MARGIN = 780, 100, 70, 18, 26, 10

STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #1f2328 }
  .page { fill: #ffffff } .title { font-weight: 600 }
  .value { font-variant-numeric: tabular-nums }
  .ours { fill: #0969da } .peer { fill: #afb8c1 } .floor { fill: none; stroke: #6e7781 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .page { fill: #0d1117 } .ours { fill: #4493f8 } .peer { fill: #545d68 } .floor { stroke: #8b949e }
  }
"""


def svg(sets):
    """`sets` has seconds by set, scenario and contestant. Within a scenario, width is time."""
    shapes, y = [], 0
    for name, scenarios in sets.items():
        y += GAP
        shapes.append(f'<text class="title" x="{MARGIN}" y="{y - 6}">{name}</text>')
        for scenario, walls in scenarios.items():
            y += GAP
            shapes.append(f'<text x="{LABEL}" y="{y - 6}">{scenario}, seconds</text>')
            longest = max(walls.values())
            for way, wall in walls.items():
                width = (WIDTH - LABEL - ROOM) * wall / longest
                peer = way in ("seed", "two-pass", "layout", "article")
                kind = "floor" if way.startswith("floor") else "peer" if peer else "ours"
                shapes.append(f'<text x="{LABEL - 8}" y="{y + 13}" text-anchor="end">{way}</text>')
                shapes.append(f'<rect class="{kind}" x="{LABEL}" y="{y + 2}" width="{width:.1f}" height="{ROW - 4}"/>')
                shapes.append(f'<text class="value" x="{LABEL + width + 6:.1f}" y="{y + 13}">{wall:.2f}</text>')
                y += ROW
    size = f'width="{WIDTH}" height="{y + MARGIN}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + MARGIN}" {size} role="img">'
    title = "<title>Seconds that a push takes, by contestant</title>"
    return "\n".join([head, title, f"<style>{STYLE}</style>", f'<rect class="page" {size}/>', *shapes, "</svg>"]) + "\n"
