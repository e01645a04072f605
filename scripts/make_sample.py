"""Draw the demo's sample image, docs/sample.png: a lighthouse at dusk, 320x240, as a small camera would
have saved it.

Drawn eight times larger, so that edges, grass, bricks and waves have detail finer than a pixel, then
reduced and passed through one JPEG compression, which leaves the softness and blocks that the networks
are made to undo.
"""

from __future__ import annotations

import io
import math
import random
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

WIDTH, HEIGHT, FACTOR = 320, 240, 8
W, H = WIDTH * FACTOR, HEIGHT * FACTOR
HORIZON = int(H * 0.58)


def sky() -> Image.Image:
    """A dusk gradient with a low sun and streaks of cloud."""
    y, x = np.mgrid[0:H, 0:W].astype(np.float32)
    t = np.clip(y / HORIZON, 0, 1)[..., None]
    top, middle, low = np.array([38, 54, 108]), np.array([176, 112, 128]), np.array([250, 188, 112])
    colour = np.where(t < 0.6, top + (middle - top) * (t / 0.6), middle + (low - middle) * ((t - 0.6) / 0.4))
    glow = np.exp(-(((x - W * 0.27) / (W * 0.16)) ** 2 + ((y - HORIZON * 0.93) / (H * 0.16)) ** 2))[..., None]
    colour += glow * np.array([70, 62, 40])
    rng = np.random.default_rng(41)
    for _ in range(26):
        cx, cy = rng.uniform(0, W), rng.uniform(0, HORIZON * 0.75)
        sx, sy = rng.uniform(W * 0.05, W * 0.2), rng.uniform(H * 0.003, H * 0.014)
        cloud = np.exp(-(((x - cx) / sx) ** 2 + ((y - cy - 0.05 * (x - cx)) / sy) ** 2))[..., None]
        colour += cloud * np.array([48, 30, 34]) * rng.uniform(0.3, 1.0)
    return Image.fromarray(np.clip(colour, 0, 255).astype(np.uint8))


def sea(picture: Image.Image) -> None:
    """Waves that mirror the sky, denser towards the horizon."""
    draw = ImageDraw.Draw(picture)
    rnd = random.Random(7)
    for row in range(HORIZON, H):
        depth = (row - HORIZON) / (H - HORIZON)
        shade = 1 - 0.62 * depth
        draw.line([(0, row), (W, row)], fill=(int(150 * shade), int(116 * shade), int(132 * shade)))
    for _ in range(5200):
        depth = rnd.random() ** 1.6
        y = HORIZON + depth * (H - HORIZON)
        length = 10 + 150 * depth * rnd.random()
        x = rnd.uniform(-50, W)
        near_sun = math.exp(-(((x - W * 0.27) / (W * (0.05 + 0.12 * depth))) ** 2))
        light = rnd.random()
        colour = (
            int(70 + 60 * light + 120 * near_sun * light),
            int(62 + 48 * light + 96 * near_sun * light),
            int(92 + 44 * light + 30 * near_sun * light),
        )
        draw.arc(
            [x, y - 3 - 8 * depth, x + length, y + 3 + 8 * depth],
            200,
            340,
            fill=colour,
            width=2 + int(5 * depth),
        )


def cliff(picture: Image.Image) -> None:
    """Rock with cracks, and grass on top, blade by blade."""
    draw = ImageDraw.Draw(picture)
    rnd = random.Random(11)
    edge = [(W * 0.44, H)]
    for step in range(60):
        t = step / 59
        x = W * (0.44 + 0.56 * t)
        y = H * (0.86 - 0.25 * math.sin(min(1, t * 1.9) * math.pi / 2)) + rnd.uniform(-14, 14)
        edge.append((x, y))
    draw.polygon([*edge, (W, H)], fill=(58, 48, 52))
    for _ in range(2600):
        t = rnd.random()
        x, top = edge[1 + int(t * 58)]
        y = rnd.uniform(top + 20, H)
        tone = rnd.randint(-18, 34)
        points = [(x + rnd.uniform(-46, 46), y + rnd.uniform(-22, 22)) for _ in range(3)]
        draw.polygon(points, fill=(64 + tone, 52 + tone, 54 + tone))
    for _ in range(5200):
        t = rnd.random()
        x, y = edge[1 + int(t * 58)]
        x += rnd.uniform(-24, 24)
        height = rnd.uniform(14, 62)
        green = rnd.randint(58, 132)
        draw.line(
            [(x, y + 16), (x + rnd.uniform(-16, 10), y - height)],
            fill=(green - 18, green, 44),
            width=rnd.randint(2, 4),
        )


def lighthouse(picture: Image.Image) -> None:
    """A brick tower with red bands, a gallery, and a lit lamp."""
    draw = ImageDraw.Draw(picture)
    rnd = random.Random(3)
    cx, base, top = W * 0.72, H * 0.645, H * 0.2
    wide, narrow = W * 0.052, W * 0.033
    rows = 58
    for row in range(rows):
        t = row / rows
        y0 = base + (top - base) * t
        y1 = base + (top - base) * (t + 1 / rows)
        half = wide + (narrow - wide) * t
        red = (row // 10) % 2 == 1
        bricks = 9
        for brick in range(-1, bricks):
            offset = 0.5 * (row % 2)
            x0 = max(-1, 2 * (brick + offset) / bricks - 1)
            x1 = min(1, 2 * (brick + offset + 1) / bricks - 1)
            if x1 <= x0:
                continue
            light = 1.06 - 0.5 * ((x0 + x1) / 2 + 1) / 2 + rnd.uniform(-0.05, 0.05)
            tone = (176, 58, 52) if red else (226, 216, 202)
            fill = tuple(int(min(255, channel * light)) for channel in tone)
            draw.rectangle([cx + x0 * half + 1, y1 + 1, cx + x1 * half - 1, y0 - 1], fill=fill)
    for level in (0.22, 0.5, 0.78):
        y = base + (top - base) * level
        draw.rounded_rectangle([cx - 20, y - 40, cx + 16, y + 30], 16, fill=(48, 42, 58))
        draw.line([(cx - 2, y - 38), (cx - 2, y + 28)], fill=(206, 196, 180), width=4)
        draw.line([(cx - 18, y - 6), (cx + 14, y - 6)], fill=(206, 196, 180), width=4)
    draw.rectangle([cx - narrow * 1.7, top - 16, cx + narrow * 1.7, top], fill=(44, 40, 50))
    for post in range(15):
        x = cx - narrow * 1.62 + post * narrow * 3.24 / 14
        draw.line([(x, top - 16), (x, top - 66)], fill=(44, 40, 50), width=5)
    draw.line([(cx - narrow * 1.66, top - 66), (cx + narrow * 1.66, top - 66)], fill=(44, 40, 50), width=7)
    draw.rectangle([cx - narrow * 0.8, top - 150, cx + narrow * 0.8, top - 16], fill=(255, 232, 160))
    for pane in range(5):
        x = cx - narrow * 0.8 + pane * narrow * 1.6 / 4
        draw.line([(x, top - 150), (x, top - 16)], fill=(60, 50, 56), width=6)
    draw.polygon(
        [(cx - narrow * 1.05, top - 150), (cx + narrow * 1.05, top - 150), (cx, top - 236)],
        fill=(150, 46, 46),
    )
    draw.line([(cx, top - 236), (cx, top - 290)], fill=(44, 40, 50), width=6)


def boat_and_birds(picture: Image.Image) -> None:
    draw = ImageDraw.Draw(picture)
    x, y = W * 0.2, H * 0.665
    draw.polygon([(x - 150, y), (x + 170, y), (x + 120, y + 54), (x - 110, y + 54)], fill=(62, 42, 40))
    draw.line([(x, y), (x, y - 300)], fill=(46, 36, 36), width=9)
    draw.polygon([(x + 10, y - 290), (x + 10, y - 24), (x + 150, y - 24)], fill=(238, 226, 206))
    draw.polygon([(x - 10, y - 250), (x - 10, y - 24), (x - 108, y - 24)], fill=(214, 198, 178))
    for seam in range(5):
        draw.line(
            [(x + 10, y - 60 - seam * 46), (x + 128 - seam * 26, y - 60 - seam * 46)],
            fill=(190, 172, 152),
            width=3,
        )
    for bx, by, size in ((0.42, 0.2, 44), (0.47, 0.24, 34), (0.5, 0.17, 28), (0.36, 0.28, 24)):
        for side in (-1, 1):
            box = sorted((W * bx, W * bx + side * 2 * size))
            draw.arc([box[0], H * by - size, box[1], H * by + size], 200, 340, fill=(40, 38, 52), width=6)


def main() -> None:
    picture = sky()
    sea(picture)
    boat_and_birds(picture)
    cliff(picture)
    lighthouse(picture)
    glow = Image.new("RGB", picture.size)
    ImageDraw.Draw(glow).ellipse(
        [W * 0.72 - 150, H * 0.2 - 230, W * 0.72 + 150, H * 0.2 + 70], fill=(120, 96, 48)
    )
    picture = Image.fromarray(
        np.clip(
            np.asarray(picture, np.int16) + np.asarray(glow.filter(ImageFilter.GaussianBlur(90)), np.int16),
            0,
            255,
        ).astype(np.uint8)
    )
    small = picture.resize((WIDTH, HEIGHT), Image.Resampling.BOX).filter(ImageFilter.GaussianBlur(0.4))
    saved = io.BytesIO()
    small.save(saved, "JPEG", quality=82)
    target = Path(__file__).resolve().parents[1] / "docs" / "sample.png"
    Image.open(saved).save(target, optimize=True)
    print(f"{target}: {WIDTH}x{HEIGHT}, {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
