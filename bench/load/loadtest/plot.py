"""Line charts as inline SVG: no libraries, no fonts or files from elsewhere, colours by CSS classes so that the page's
light and dark schemes apply."""

import html
import math

WIDTH, HEIGHT = 560, 300
LEFT, RIGHT, TOP, BOTTOM = 62, 26, 20, 44
TICKS = 6
COLOURS = 8     # classes c0 to c7 of the page
LOG_STEPS = (1, 2, 5)


def si(value):
    """12300 as 12.3 k."""
    for limit, unit in ((1e9, " G"), (1e6, " M"), (1e4, " k")):
        if abs(value) >= limit:
            scaled = value / (1e3 if unit == " k" else limit)
            return "%.3g%s" % (scaled, unit)
    return "%.4g" % value if abs(value) < 1e4 else "%.0f" % value


def duration_us(value):
    """Microseconds in the unit that suits them."""
    for limit, divisor, unit in ((1e6, 1e6, "s"), (1e3, 1e3, "ms")):
        if abs(value) >= limit:
            return "%.3g %s" % (value / divisor, unit)
    return "%.3g µs" % value


def percent(value):
    return "%.4g %%" % (value * 100)


def size_bytes(value):
    for limit, unit in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if abs(value) >= limit:
            return "%.4g %s" % (value / limit, unit)
    return "%.4g B" % value


def nice_step(span):
    raw = span / TICKS
    power = 10 ** math.floor(math.log10(raw))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= raw * 0.999)


class Axis:
    """From values to pixels. A share axis (0 to 1, exclusive) is spread so that each further nine takes as much room."""

    def __init__(self, label, form=si, kind="linear", low=None, high=None, unit=1):
        """`unit`: linear ticks are round in multiples of it."""
        self.label, self.form, self.kind, self.unit = label, form, kind, unit
        self.low, self.high = low, high

    def through(self, value):
        if self.kind == "log":
            return math.log10(value)
        return -math.log10(1 - value) if self.kind == "share" else value

    def shows(self, value):
        return value is not None and not (self.kind == "log" and value <= 0) and not (self.kind == "share" and value >= 1)

    def fit(self, values):
        values = [v for v in values if self.shows(v)]
        low = self.low if self.low is not None else min(values, default=0)
        high = self.high if self.high is not None else max(values, default=1)
        if self.kind == "linear":
            if self.low is None and low > 0 and low < high * 0.5:
                low = 0
            if high <= low:
                low, high = (low - abs(low) * 0.05, low + abs(low) * 0.05) if low else (0, 1)
            step = nice_step((high - low) / self.unit) * self.unit
            low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
            self.ticks = [low + step * i for i in range(int(round((high - low) / step)) + 1)]
        elif self.kind == "log":
            low, high = self.fit_log(low, high)
        else:
            high = max(high, 0.99)
            nines = int(math.ceil(-math.log10(1 - high) - 1e-9))
            self.ticks = [0.5] + [1 - 10.0 ** -n for n in range(1, nines + 1)]
            low, high = 0, max(high, self.ticks[-1])
        self.from_value, self.to_value = self.through(low), self.through(high)

    def fit_log(self, low, high):
        low, high = max(low, 1e-9), max(high, low, 1e-9)
        marks = [step * 10.0 ** power for power in range(int(math.floor(math.log10(low))) - 1,
                                                         int(math.ceil(math.log10(high))) + 2) for step in LOG_STEPS]
        low = max(m for m in marks if m <= low * 1.001)
        high = min(m for m in marks if m >= high * 0.999 and m > low)
        self.ticks = [m for m in marks if low * 0.999 <= m <= high * 1.001]
        if len(self.ticks) > TICKS + 3:
            self.ticks = [m for m in self.ticks if abs(math.log10(m) - round(math.log10(m))) < 1e-6]
        return low, high

    def at(self, value):
        """From 0 to 1 between the ends."""
        return (self.through(value) - self.from_value) / (self.to_value - self.from_value)

    def name(self, tick):
        if self.kind == "share":
            return "%s %%" % ("%.6f" % (tick * 100)).rstrip("0").rstrip(".")
        return self.form(0 if abs(tick) < 1e-12 else tick)


class Chart:
    """add() lines, then svg()."""

    def __init__(self, title, x, y, note=None):
        self.title, self.x, self.y, self.note = title, x, y, note
        self.lines, self.bands, self.levels = [], [], []

    def add(self, name, points, colour=None, dashed=False, hollow=None, dots=True, step=False):
        """`points`: (x, y) each; those without a value break the line. `hollow`: for each point, whether it is not to be
        believed, and is drawn as a ring."""
        colour = len(self.lines) % COLOURS if colour is None else colour
        self.lines.append((name, list(points), colour, dashed, hollow or [False] * len(points), dots, step))

    def band(self, x_from, x_to, name):
        self.bands.append((x_from, x_to, name))

    def level(self, y, name):
        self.levels.append((y, name))

    def is_empty(self):
        return not any(self.y.shows(y) for line in self.lines for _, y in line[1])

    def px(self, value):
        return LEFT + min(max(self.x.at(value), 0), 1) * (WIDTH - LEFT - RIGHT)

    def py(self, value):
        return HEIGHT - BOTTOM - min(max(self.y.at(value), 0), 1) * (HEIGHT - TOP - BOTTOM)

    def svg(self):
        self.x.fit([x for line in self.lines for x, _ in line[1]])
        self.y.fit([y for line in self.lines for _, y in line[1]] + [y for y, _ in self.levels])
        parts = ['<svg viewBox="0 0 %d %d" role="img" aria-label="%s">' % (WIDTH, HEIGHT, html.escape(self.title))]
        parts += self.draw_bands() + self.draw_grid()
        for line in self.lines:
            parts += self.draw_line(*line)
        return "\n".join(parts + ["</svg>"])

    def draw_bands(self):
        parts = []
        for number, (low, high, name) in enumerate(self.bands):
            left, right = self.px(low), self.px(high)
            parts.append('<rect class="band b%d" x="%.1f" y="%d" width="%.1f" height="%d"><title>%s</title></rect>'
                         % (number % 2, left, TOP, max(right - left, 0), HEIGHT - TOP - BOTTOM, html.escape(name)))
            if right - left > 5.2 * len(name):
                parts.append('<text class="tiny" x="%.1f" y="%d" text-anchor="middle">%s</text>'
                             % ((left + right) / 2, TOP - 6, html.escape(name)))
        return parts

    def draw_grid(self):
        bottom, parts = HEIGHT - BOTTOM, []
        for tick in self.y.ticks:
            y = self.py(tick)
            parts.append('<line class="grid" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/>' % (LEFT, WIDTH - RIGHT, y, y))
            parts.append('<text x="%d" y="%.1f" text-anchor="end">%s</text>' % (LEFT - 6, y + 4, self.y.name(tick)))
        for tick in self.x.ticks:
            x = self.px(tick)
            parts.append('<line class="axis" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/>' % (x, x, bottom, bottom + 4))
            parts.append('<text x="%.1f" y="%d" text-anchor="middle">%s</text>' % (x, bottom + 17, self.x.name(tick)))
        parts.append('<line class="axis" x1="%d" x2="%d" y1="%d" y2="%d"/>' % (LEFT, WIDTH - RIGHT, bottom, bottom))
        parts.append('<text class="label" x="%.1f" y="%d" text-anchor="middle">%s</text>'
                     % ((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, html.escape(self.x.label)))
        for y, name in self.levels:
            at = self.py(y)
            parts.append('<line class="level" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/>' % (LEFT, WIDTH - RIGHT, at, at))
            parts.append('<text class="tiny" x="%d" y="%.1f" text-anchor="end">%s</text>'
                         % (WIDTH - RIGHT - 2, at - 4, html.escape(name)))
        return parts

    def draw_line(self, name, points, colour, dashed, hollow, dots, step):
        path, parts, previous = [], [], None
        for (x, y), is_hollow in zip(points, hollow):
            if not (self.x.shows(x) and self.y.shows(y)):
                previous = None
                continue
            at = (self.px(x), self.py(y))
            if previous is None:
                path.append("M%.1f %.1f" % at)
            elif step:
                path.append("H%.1fV%.1f" % at)
            else:
                path.append("L%.1f %.1f" % at)
            previous = at
            if dots:
                parts.append('<circle class="dot c%d%s" cx="%.1f" cy="%.1f" r="3.5"><title>%s</title></circle>'
                             % (colour, " hollow" if is_hollow else "", at[0], at[1],
                                html.escape("%s: %s at %s" % (name, self.y.name(y), self.x.name(x)))))
        return ['<path class="line c%d%s" d="%s"><title>%s</title></path>'
                % (colour, " dashed" if dashed else "", " ".join(path), html.escape(name))] + parts

    def figure(self):
        """The chart with its title and legend, as HTML."""
        names = ["<span class='key c%d%s'></span>%s" % (line[2], " dashed" if line[3] else "", html.escape(line[0]))
                 for line in self.lines]
        note = "<p class='note'>%s</p>" % html.escape(self.note) if self.note else ""
        return ("<figure><figcaption><b>%s</b><span class='unit'>%s</span></figcaption><div class='legend'>%s</div>%s%s"
                "</figure>" % (html.escape(self.title), html.escape(self.y.label),
                               " ".join("<span>%s</span>" % name for name in names), self.svg(), note))
