"""table.py - from raw results to rows: which figures, what the machine's limit would allow, what is needed, the text.
Not: how they are measured."""
from shapes import SHAPES, decoder_weights, picture_flop, token_bytes

# What each dtype of vlmd is compared with: [(engine, dtype)].
OPPONENTS = {
    "q4": [("llama.cpp", "q4_0")], "q8": [("llama.cpp", "q8_0")],
    "f16": [("llama.cpp", "f16"), ("transformers", "f32")],
    "bf16": [("llama.cpp", "f16"), ("transformers", "bf16")]}
# (test, n, batch) of results: (text, unit, factor from the results' unit)
FIGURES = {
    ("prefill", 128, 1): ("prompt of 128 tokens", "tok/s", 1), ("prefill", 512, 1): ("prompt of 512 tokens", "tok/s", 1),
    ("decode", 0, 1): ("answer, 1 stream", "tok/s", 1), ("decode", 0, 16): ("answers, 16 streams", "tok/s", 1),
    ("encode", 0, 1): ("picture through the tower", "ms", 1e3), ("ttft_new", 0, 1): ("first token, new picture", "ms", 1e3),
    ("four_clients", 0, 4): ("4 clients, pictures", "s", 1), ("server_memory", 0, 0): ("server's memory", "GB", 1e-9)}
# What is wanted of the share of the machine's limit, by figure and dtype; of f16's prefill by its instructions.
SHARES = {
    "prefill": {"q4": 0.60, "q8": 0.60, "f16": 0.85, "bf16": 0.60}, "decode": dict.fromkeys(OPPONENTS, 0.92),
    "encode": dict.fromkeys(OPPONENTS, 0.70)}
STREAMS_OF_PREFILL = {"q4": 0.85}  # 16 streams as a share of our own prompt of 512 tokens
# Of the ratio to llama.cpp, by figure and what the CPU multiplies bytes with: speeds at least, times at most.
RATIOS = {
    ("prefill", 128, 1): {"avx2": 1.4, "vnni": 2.0}, ("prefill", 512, 1): {"avx2": 1.4, "vnni": 2.0},
    ("decode", 0, 16): {"avx2": 1.3, "vnni": 2.5}, ("ttft_new", 0, 1): {"avx2": 0.70, "vnni": 0.42},
    ("four_clients", 0, 4): {"avx2": 0.70, "vnni": 0.42}}
RATIO_DTYPES = {"prefill": ("q4", "q8")}  # of other figures q4 alone


def key_of(result):
    """The figure of a result, or None for one that is not shown."""
    n = result["n"] if result["test"] == "prefill" else 0
    if result["test"] == "prefill":
        n = 128 if n <= 128 else 512  # a tokenizer may have no text of just so many
    key = (result["test"], n, result["batch"])
    return key if key in FIGURES else None


def is_speed(key):
    return key[0] in ("prefill", "decode")


def best(runs):
    """{(engine, dtype): {figure: value}}: the best of all rounds, since neighbours on the machine only ever slow it."""
    out = {}
    for run in runs:
        values = out.setdefault((run["engine"], run["dtype"]), {})
        for r in run.get("results", []):
            key = key_of(r)
            if key is not None:
                pick = max if is_speed(key) else min
                values[key] = pick(values.get(key, r["value"]), r["value"])
    return out


def best_limits(rounds):
    """{kind: {"value", "isa"}}, Gop/s or GB/s: the best of all rounds."""
    out = {}
    for limits in rounds:
        for x in limits:
            if x["kind"] not in out or x["value"] > out[x["kind"]]["value"]:
                out[x["kind"]] = {"value": x["value"], "isa": x["isa"]}
    return out


def limit_of(key, dtype, shape, limits):
    """The value that the machine's limit would allow; None where none is known."""
    def of(kind):
        return limits[kind]["value"] * 1e9 if kind in limits else 0
    test, _, batch = key
    if test == "prefill":
        kind = {"q4": "i8", "q8": "i8", "bf16": "bf16" if "bf16" in limits else "f32"}.get(dtype, "f32")
        return of(kind) / (2 * decoder_weights(shape)) or None
    if test == "decode" and batch == 1:
        return of("read") / token_bytes(shape, dtype, "vlmd") or None
    if test == "encode":
        rate = max(of("f32"), of("bf16"))
        return picture_flop(shape) / rate if rate else None
    return None


def need(what, value, wanted, at_least):
    return {"what": what, "value": value, "wanted": wanted, "at_least": at_least,
            "met": value >= wanted if at_least else value <= wanted}


def needs_of(key, dtype, row, mine, limits):
    out = []
    wanted = SHARES.get(key[0], {}).get(dtype)
    if row["share"] is not None and wanted:
        out.append(need("of limit", row["share"], wanted, True))
    if key == ("decode", 0, 16) and dtype in STREAMS_OF_PREFILL and ("prefill", 512, 1) in mine:
        out.append(need("of prefill", row["vlmd"] / mine["prefill", 512, 1], STREAMS_OF_PREFILL[dtype], True))
    kind = "vnni" if "vnni" in limits.get("i8", {}).get("isa", "") else "avx2"
    if key in RATIOS and dtype in RATIO_DTYPES.get(key[0], ("q4",)) and "llama.cpp" in row["ratios"]:
        out.append(need("of llama.cpp", row["ratios"]["llama.cpp"], RATIOS[key][kind], is_speed(key)))
    return out


def rows_of(dtype, report):
    """Rows of a dtype: figure, unit, vlmd, peers, ratios, share of the limit, needs."""
    values, limits = best(report["runs"]), best_limits(report["limits"])
    mine, out = values.get(("vlmd", dtype), {}), []
    for key, (text, unit, factor) in FIGURES.items():
        peers = {e: values[e, d][key] for e, d in OPPONENTS[dtype] if key in values.get((e, d), {})}
        if key not in mine and not peers:
            continue
        row = {"figure": text, "unit": unit, "vlmd": mine.get(key), "peers": peers, "factor": factor,
               "ratios": {e: mine[key] / v for e, v in peers.items()} if key in mine else {}, "share": None, "needs": []}
        limit = limit_of(key, dtype, SHAPES[report["shape"]], limits)
        if limit and key in mine:
            row["share"] = mine[key] / limit if is_speed(key) else limit / mine[key]
        row["needs"] = needs_of(key, dtype, row, mine, limits) if key in mine else []
        out.append(row)
    return out


def number(value, factor=1):
    if value is None:
        return "-"
    value *= factor
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def need_text(n):
    return (f"{'ok' if n['met'] else 'NOT MET'}: {n['what']} {n['value']:.2f}, "
            f"{'at least' if n['at_least'] else 'at most'} {n['wanted']:.2f}")


def block(dtype, report):
    """Lines of one dtype."""
    engines = [e for e, _ in OPPONENTS[dtype] if e in report["peers"]]
    names = [f"{e} {d}" for e, d in OPPONENTS[dtype] if e in engines]
    out = ["", f"{'vlmd --dtype ' + dtype:32} {'vlmd':>9}"
           + "".join(f"  {n:>17} {'ratio':>6}" for n in names) + f"  {'of limit':>8}  needed"]
    for row in rows_of(dtype, report):
        line = f"{row['figure'] + ', ' + row['unit']:32} {number(row['vlmd'], row['factor']):>9}"
        for e in engines:
            line += f"  {number(row['peers'].get(e), row['factor']):>17} {number(row['ratios'].get(e)):>6}"
        line += f"  {'-' if row['share'] is None else format(row['share'], '.0%'):>8}"
        out.append((line + "  " + "; ".join(need_text(n) for n in row["needs"])).rstrip())
    return out


def refusals(report):
    """Who could not be measured, and why, once each."""
    seen = {}
    for run in report["runs"]:
        if run.get("error"):
            seen[f"{run['engine']} {run['dtype']}, {run['what']}"] = run["error"]
    return [f"not available: {name}: {why}" for name, why in seen.items()]


def text_of(report):
    limits = best_limits(report["limits"])
    out = [f"{report['cpu']}, {report['threads']} threads, shape {report['shape']}, {report['date']}, "
           f"{report['rounds']} rounds"]
    out += [f"limit: {kind} {x['value']:.4g} {'GB/s' if kind == 'read' else 'Gop/s'} ({x['isa']})"
            for kind, x in limits.items()]
    busy = max((run.get("load_before", 0) for run in report["runs"]), default=0)
    if busy > 2 * report["threads"]:  # our own runs leave up to one a thread behind
        out.append(f"WARNING: others used this machine meanwhile (load {busy:.1f}): speeds and shares are of little worth")
    for dtype in report["dtypes"]:
        out += block(dtype, report)
    quality = report.get("quality")
    if quality:
        out += ["", f"{'logits against float32':24} {'cosine':>10} {'least':>10} {'same first choice':>18}"]
        out += [f"{q['engine'] + ' ' + q['dtype']:24} {q['cosine']:10.6f} {q['least']:10.6f} {q['same_choice']:18.1%}"
                for q in quality]
    out += ["", *refusals(report)]
    all_needs = [n for d in report["dtypes"] for row in rows_of(d, report) for n in row["needs"]]
    out.append(f"{sum(n['met'] for n in all_needs)} of {len(all_needs)} needs met")
    return "\n".join(out)
