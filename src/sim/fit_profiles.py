#!/usr/bin/env python3
"""Fits the constants of the engine model to measured step times, and prints the rows of profiles.c.

    python3 src/sim/fit_profiles.py splitwise_step_times.csv

The file is data/perf_model.csv of Mutinifni/splitwise-sim (MIT, (c) 2024 Pratyush Patel): Llama-2-70B and BLOOM-176B on
A100 and H100, by prompt size, batch size and tensor parallelism.

Decoding: least squares of token_time over (batch - 1); the intercept is the step's base.
Prefill: least squares of (prompt_time - base) over the tokens of the batch's prompts, through the origin, with points
of at most one chunk (2,048 tokens), since no step of a chunked prefill computes more.
KV memory: 0.9 of the cards' memory less the weights (2 bytes a parameter), over the bytes of a token's keys and values.
"""
import collections
import csv
import sys

CHUNK = 2048
GPU_BYTES = 80e9
# parameters; layers x KV heads x head size x (key and value) x 2 bytes
MODELS = {"llama2-70b": (69e9, 80 * 8 * 128 * 2 * 2), "bloom-176b": (176e9, 70 * 112 * 128 * 2 * 2)}


def line(points):
    n = len(points)
    sx, sy = sum(x for x, _ in points), sum(y for _, y in points)
    sxx, sxy = sum(x * x for x, _ in points), sum(x * y for x, y in points)
    slope = (n * sxy - sx * sy) / (n * sxx - sx * sx)
    return (sy - slope * sx) / n, slope


def slope_through_origin(points):
    return sum(x * y for x, y in points) / sum(x * x for x, _ in points)


def mean_error(pairs):
    return sum(abs(model - measured) / measured for model, measured in pairs) / len(pairs)


def main():
    groups = collections.defaultdict(list)
    with open(sys.argv[1], newline="") as file:
        for row in csv.DictReader(file):
            groups[row["model"], row["hardware"], int(row["tensor_parallel"])].append(row)
    for (model, hardware, cards), rows in sorted(groups.items()):
        decode = [(int(r["batch_size"]) - 1, float(r["token_time"])) for r in rows]
        base, per_sequence = line(decode)
        prefill = [(int(r["prompt_size"]) * int(r["batch_size"]), float(r["prompt_time"])) for r in rows]
        prefill = [(tokens, ms) for tokens, ms in prefill if tokens <= CHUNK]
        per_token = slope_through_origin([(tokens, ms - base) for tokens, ms in prefill])
        parameters, token_bytes = MODELS[model]
        kv_tokens = int((0.9 * cards * GPU_BYTES - 2 * parameters) / token_bytes / 1000) * 1000
        decode_error = mean_error([(base + per_sequence * x, y) for x, y in decode])
        prefill_error = mean_error([(base + per_token * x, y) for x, y in prefill])
        name = f"{model}-{hardware.replace('-80gb', '')}-x{cards}"
        print(
            f'    /* mean error: decode {decode_error:.1%}, prefill {prefill_error:.1%} */\n'
            f'    MEASURED("{name}", {base * 1000:.0f}, {per_sequence * 1000:.0f}, {1000 / per_token:.0f}, '
            f"{kv_tokens}),"
        )


if __name__ == "__main__":
    main()
