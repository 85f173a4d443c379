"""The results as a Markdown table, and as a plot in SVG."""

import html
import math

BAR = 22
LEFT, WIDTH, RIGHT = 330, 420, 70
# Units of the fields that are not tokens a second.
UNITS = {
    "peak_rss_mib": " MiB",
    "first_token_ms.median": " ms",
    "sentences_per_s": " sentences/s",
}


def rounded(value):
    """Three significant digits, thousands with commas."""
    if value is None:
        return "–"
    digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{round(value, digits):,.{digits}f}"


def verdict(result):
    if result["ratio"] is None:
        return "not measured"
    said = "reached" if result["ratio"] >= result["mark"] else "missed"
    return said + ("" if result["quiet"] else ", disturbed")


def markdown(results, about):
    """One row for each comparison: medians of the windows' medians, and their ratio."""
    lines = [
        f"Measured {about['date']} on {about['machine']}, {about['threads']} threads; "
        f"{about['versions']}. Speeds in tokens a second where no unit is given; each pair ran in "
        "turns, and the ratio is the median of the turns' ratios.",
        "",
        "| what | against | theirs | ours | ratio | mark | | windows | others' CPUs |",
        "|---|---|---:|---:|---:|---:|---|---:|---:|",
    ]
    for result in results:
        unit = UNITS.get(result["field"], "")
        cells = [
            result["name"],
            result["against"],
            rounded(result["theirs"]) + unit,
            rounded(result["ours"]) + unit,
            f"**{rounded(result['ratio'])}×**" if result["ratio"] else "–",
            f"{result['mark']}×",
            verdict(result),
            str(result["windows"]),
            f"{result['other_cpus_busy']:.2f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def svg(results):
    """Bars of the ratios on a logarithmic scale, with a tick at each mark."""
    drawn = [result for result in results if result["ratio"]]
    highest = max([result["ratio"] for result in drawn] + [result["mark"] for result in drawn] + [2])
    lowest = min([result["ratio"] for result in drawn] + [1 / 2])

    def x(ratio):
        share = (math.log(ratio) - math.log(lowest)) / (math.log(highest) - math.log(lowest))
        return LEFT + WIDTH * share

    height = BAR * len(drawn) + 50
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + RIGHT}" '
        f'height="{height}" font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{LEFT}" y="16">times as fast as the peer (line: the mark)</text>',
    ]
    for tick in (2.0**power for power in range(-3, 10)):
        if lowest <= tick <= highest:
            color = "#333" if tick == 1 else "#ddd"
            parts.append(
                f'<line x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="24" y2="{height - 22}" '
                f'stroke="{color}"/><text x="{x(tick):.1f}" y="{height - 8}" '
                f'text-anchor="middle">{tick:g}×</text>'
            )
    for index, result in enumerate(drawn):
        top = 28 + BAR * index
        start, end = sorted((x(1), x(result["ratio"])))
        color = "#2a6f97" if result["ratio"] >= result["mark"] else "#c8553d"
        name = html.escape(result["name"])
        parts += [
            f'<text x="{LEFT - 8}" y="{top + 13}" text-anchor="end">{name}</text>',
            f'<rect x="{start:.1f}" y="{top}" width="{end - start:.1f}" height="{BAR - 6}" '
            f'fill="{color}"/>',
            f'<line x1="{x(result["mark"]):.1f}" x2="{x(result["mark"]):.1f}" y1="{top - 2}" '
            f'y2="{top + BAR - 4}" stroke="black" stroke-width="2"/>',
            f'<text x="{end + 5:.1f}" y="{top + 13}">{rounded(result["ratio"])}×</text>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"
