"""What a person sees: a line of progress, then the tables."""

import sys

BUNCHED_GAP_US = 10000      # half of the ticker's events at 20/s should be 50 ms apart



def progress(text):
    """Overwrites itself, so only where that works."""
    if sys.stdout.isatty():
        print("\r  %-60s" % text, end="\r", flush=True)


def cell(row, key, form):
    value = row.get(key)
    if value is None:
        return "-"
    return form % (value * 100 if form.endswith("%%") else value)


def print_table(header, rows):
    widths = [max(len(line[i]) for line in [header] + rows) for i in range(len(header))]
    for line in [header] + rows:
        print("  " + "  ".join([line[0].ljust(widths[0])] + [line[i].rjust(widths[i]) for i in range(1, len(line))]))


def print_scenario(name, scenario, outcome):
    unit = outcome["unit"]
    progress("")
    print("\n%s: %s" % (name, outcome["about"]))
    header = [outcome["base"] or ""] + [title % unit if "%" in title else title for _, title, _ in scenario.COLUMNS]
    header[0] = "base: %s" % outcome["base"] if outcome["base"] else ""
    rows = [[who] + [cell(row, key, form) for key, _, form in scenario.COLUMNS]
            for who, row in outcome["contenders"].items()]
    print_table(header, rows)
    for who, row in outcome["contenders"].items():
        if row.get("failed"):
            print("  ! %s: %s" % (who, row["failed"]))
        if row.get("gap_p50_us") is not None and row["gap_p50_us"] < BUNCHED_GAP_US:
            print("  ! %s: events came in bunches; it did not keep up, and its CPU per event is not comparable" % who)
        if row.get("calls"):
            calls = sorted(row["calls"]["calls"].items(), key=lambda pair: -pair[1])
            print("  system calls per %s, %s: %s (%s)" % (
                unit, who, ", ".join("%s %.4f" % pair for pair in calls if pair[1] >= 0.00005) or "none",
                row["calls"]["by"]))
