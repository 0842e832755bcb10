"""What has been measured, as tables of Markdown."""

import sys

SCENARIOS = ["cold", "unchanged", "leaf"]
MB = 1e6
# 64 MiB, and a chunk for each layer that is under way.
MEMORY = 64 * 1024**2 + 4 * 16 * 1024**2


def report(name, runs, bench, medians):
    print(f"\n### {name}: {bench.title}\n\nMedians of {runs}. `ours :` is the ratio of ours to this, for wall and CPU.\n")
    for scenario in SCENARIOS:
        head = [scenario, "wall s", "CPU s", "ours :", "sent MB", "requests", "registry CPU s", "read MB", "disk MB", "memory MB"]
        rows = []
        for way in bench.ways:
            it, ours = medians.get((way, scenario)), medians["ours", scenario]
            if it:
                ratios = "" if way == "ours" else f"{ratio(ours['wall'] / it['wall'])}, {ratio(ours['cpu'] / it['cpu'])}"
                times = [f"{it['wall']:.2f}", f"{it['cpu']:.2f}", ratios]
                counts = [f"{it['sent'] / MB:.2f}", f"{it['requests']:.0f}", f"{it['registry cpu']:.2f}"]
                rows.append([way, *times, *counts, *(f"{it[figure] / MB:.1f}" for figure in ("read", "disk", "memory"))])
        table(head, rows)
    for ours, other in [("expression", "article"), ("push", "copy")]:
        pairs = [(scenario, medians[ours, scenario], medians[other, scenario]) for scenario in SCENARIOS]
        names = ("wall", "cpu", "memory")
        rows = [[scenario, *(ratio(it[name] / its[name]) for name in names)] for scenario, it, its in pairs]
        table([f"{ours} to {other}", "wall", "CPU", "memory"], rows)
    rows = [[goal, wanted, got, "met" if met else "**missed**"] for goal, wanted, got, met in goals(bench, medians)]
    table(["goal", "at most", "measured", ""], rows)
    sys.stdout.flush()


def goals(bench, medians):
    """What a push shall take, what it takes, and whether that is enough."""

    def figure(way, scenario, name):
        return medians[way, scenario][name]

    def at_most(goal, limit, got, show):
        return goal, show(limit), show(got), got <= limit

    def against(goal, scenario, way, limit, ours="ours", names=("wall", "cpu")):
        for name in names:
            got = figure(ours, scenario, name) / figure(way, scenario, name)
            yield at_most(f"{goal}, {name}", limit, got, ratio)

    def megabytes(bytes):
        return f"{bytes / MB:.2f} MB"

    yield from against("cold, to the floor", "cold", "floor", 1.25)
    yield from against("cold, to seed", "cold", "seed", 1 / 6)
    yield from against("cold, to two-pass", "cold", "two-pass", 0.6)
    least = min(figure(way, "cold", "sent") for way in ("seed", "two-pass"))
    yield at_most("cold, sent", least, figure("ours", "cold", "sent"), megabytes)
    for variant in ("fast", "zstd"):
        yield from against(f"cold, {variant} to ours", "cold", "ours", 1, ours=variant)
    for variant in ("ours", "zstd"):
        yield at_most(f"cold, memory, {variant}", MEMORY, figure(variant, "cold", "memory"), megabytes)
    yield at_most("cold, bytes on disk but for records", 1 << 20, figure("ours", "cold", "disk"), megabytes)
    yield at_most("unchanged, requests", 3, figure("ours", "unchanged", "requests"), lambda count: f"{count:.0f}")
    opens = figure("ours", "unchanged", "opens_store")
    yield "unchanged, store paths opened", "none", "some" if opens else "none: /nix may be empty", not opens
    yield from against("unchanged, to seed", "unchanged", "seed", 1 / 100)
    for way in ("ours", "stable"):
        yield from against(f"leaf, {way} to seed", "leaf", "seed", 1 / 30, ours=way)
    limit = 1.1 * bench.changed + (128 << 10)
    yield at_most("leaf, sent by stable", limit, figure("stable", "leaf", "sent"), megabytes)


def ratio(value):
    return f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def table(head, rows):
    for row in [head, ["---"] * len(head), *rows]:
        print("|", " | ".join(row), "|")
    print()
