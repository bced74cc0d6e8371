"""What deploy/ says is true of the program: its options exist, its metrics too, and the commands of the manifests
run and find each other."""
import glob
import json
import os
import re
import shutil
import subprocess

import httpx
import pytest
import yaml

from api import Api, chat
from conftest import PROGRAM, clean_environment
from helpers import ROOT
from servers import needs_localhost, Server

DEPLOY = os.path.join(ROOT, "deploy")
SERVERS = ("serve", "gateway", "worker")
METRIC = re.compile(r"\b(?:vlmd|http)_[a-z0-9_]+\b")


def read(*path):
    with open(os.path.join(ROOT, *path), encoding="utf-8") as f:
        return f.read()


def load_all(path):
    return [d for d in yaml.safe_load_all(read(path)) if d is not None]


def manifests():
    paths = sorted(glob.glob(os.path.join(DEPLOY, "kubernetes", "*.yaml")))
    assert paths
    return [d for p in paths for d in load_all(os.path.relpath(p, ROOT))]


def of_kind(kind):
    return [m for m in manifests() if m["kind"] == kind]


def metrics_of_program():
    """Name -> kind, from the one table and what metrics.c writes beside it."""
    found = dict(re.findall(r'X\([A-Z0-9_]+, "([a-z0-9_]+)", (COUNTER|GAUGE|HISTOGRAM)', read("src/gateway/metrics.h")))
    for name in re.findall(r'"((?:vlmd|http)_[a-z0-9_]+)"', read("src/gateway/metrics.c")):
        found[name] = "COUNTER" if name.endswith("_total") else "HISTOGRAM" if name.endswith("_seconds") else "GAUGE"
    assert len(found) >= 30
    return found


def family(name, metrics):
    for suffix in ("", "_bucket", "_sum", "_count"):
        base = name.removesuffix(suffix) if suffix else name
        if base in metrics and (suffix == "") == (metrics[base] != "HISTOGRAM"):
            return base
    return None


def options_of(command):
    text = subprocess.run([PROGRAM, command, "--help"], capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"^ +(?:-\w, )?--([a-z0-9-]+)", text, re.M))


def command_lines():
    """(where, words) of every call of vlmd in deploy/, comments included."""
    for m in of_kind("Deployment"):
        for c in m["spec"]["template"]["spec"]["containers"]:
            yield m["metadata"]["name"], c["args"]
    yield "Dockerfile", json.loads(re.search(r"^CMD (\[.*\])$", read("deploy/Dockerfile"), re.M).group(1))
    for name in ("Dockerfile", "vlmd.service"):
        for line in re.findall(r"\bvlmd ((?:serve|gateway|worker) .*)$", read("deploy", name), re.M):
            yield name, line.replace("`", " ").split()


def test_options_exist():
    n = 0
    for where, words in command_lines():
        assert words[0] in SERVERS, where
        known = options_of(words[0])
        for word in words[1:]:
            if not word.startswith("--") or word == "--":
                continue
            n += 1
            assert word[2:].split("=")[0] in known, f"{where}: {word}"
    assert n >= 12
    table = set(re.findall(r'\([A-Z0-9_]+, [a-z0-9_]+, "([a-z0-9-]+)", (?:0|\'\w\')', read("src/cli/options.h")))
    for path in ("deploy/vlmd.service", "deploy/Dockerfile"):
        for name in re.findall(r"\bVLMD_([A-Z0-9_]+)=", read(path)):
            assert name.lower().replace("_", "-") in table, f"{path}: VLMD_{name}"


def test_dashboard():
    """Every metric of a panel is one of the program's, and every one of these is shown."""
    board = json.loads(read("deploy/grafana-dashboard.json"))
    metrics = metrics_of_program()
    shown = set()
    ids = set()
    for panel in board["panels"]:
        assert panel["id"] not in ids
        ids.add(panel["id"])
        for target in panel.get("targets", []):
            expr = target["expr"]
            assert expr.count("(") == expr.count(")") and expr.count("{") == expr.count("}"), expr
            names = METRIC.findall(expr)
            assert names, expr
            for name in names:
                assert family(name, metrics) is not None, f"{panel['title']}: {name}"
                shown.add(family(name, metrics))
    for variable in board["templating"]["list"]:
        for name in METRIC.findall(str(variable["query"])):
            assert family(name, metrics) is not None, name
    assert shown == set(metrics), set(metrics) - shown


def test_metrics_are_documented():
    text = read("docs/operations.md")
    for name in metrics_of_program():
        assert f"`{name}`" in text, name
    for name in METRIC.findall(text):
        assert name in metrics_of_program(), name


def test_options_are_documented():
    text = read("docs/operations.md")
    known = set().union(*map(options_of, SERVERS))
    for name in known:
        assert re.search(rf"`--{name}[ `]", text), f"--{name}"
    for name in re.findall(r"`--([a-z0-9-]+)", text):
        assert name in known, f"--{name}"


def test_prometheus():
    config = yaml.safe_load(read("deploy/prometheus.yml"))
    assert config["scrape_configs"]
    for job in config["scrape_configs"]:
        assert job["metrics_path"] == "/metrics" and "credentials_file" in job["authorization"]


def test_kubernetes():
    """Names, labels and ports of the manifests fit each other."""
    listed = yaml.safe_load(read("deploy/kubernetes/kustomization.yaml"))["resources"]
    present = {os.path.basename(p) for p in glob.glob(os.path.join(DEPLOY, "kubernetes", "*.yaml"))}
    assert set(listed) == present - {"kustomization.yaml"}
    pods = {m["metadata"]["name"]: m["spec"]["template"] for m in of_kind("Deployment")}
    services = {m["metadata"]["name"]: m["spec"] for m in of_kind("Service")}
    secrets = {m["metadata"]["name"] for m in of_kind("Secret")}
    claims = {m["metadata"]["name"] for m in of_kind("PersistentVolumeClaim")}
    labels = [p["metadata"]["labels"].items() for p in pods.values()]
    selectors = [s["selector"] for s in services.values()]
    selectors += [m["spec"]["podSelector"]["matchLabels"] for m in of_kind("NetworkPolicy")]
    for selector in selectors:
        assert sum(selector.items() <= items for items in labels) == 1, selector
    assert services["vlmd-workers"]["clusterIP"] == "None"
    for name, pod in pods.items():
        spec = pod["spec"]
        (c,) = spec["containers"]
        ports = {p["name"]: p["containerPort"] for p in c["ports"]}
        words = " ".join(c["args"])
        assert re.search(r"--listen=\S+:(\d+)", words).group(1) in map(str, ports.values())
        timeout = float(re.search(r"--shutdown-timeout=(\d+)", words).group(1))
        stop = c.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["", "0"])
        assert spec["terminationGracePeriodSeconds"] > timeout + float(stop[1])
        for probe in ("readinessProbe", "livenessProbe"):
            if "httpGet" in c[probe]:
                assert c[probe]["httpGet"]["port"] in ports
                assert c[probe]["httpGet"]["path"] in ("/livez", "/readyz")  # the two that need no key
            else:
                assert c[probe]["grpc"]["port"] in ports.values()
        assert c["securityContext"]["readOnlyRootFilesystem"] and not c["securityContext"]["allowPrivilegeEscalation"]
        assert c["securityContext"]["capabilities"]["drop"] == ["ALL"] and spec["securityContext"]["runAsNonRoot"]
        for volume in spec["volumes"]:
            assert volume.get("secret", {}).get("secretName", "vlmd-keys") in secrets
            assert volume.get("persistentVolumeClaim", {}).get("claimName", "vlmd-model") in claims
        if name == "vlmd-gateway":
            host, port = re.search(r"--worker=dns:///([a-z-]+):(\d+)", words).groups()
            assert services[host]["ports"][0]["port"] == int(port)


def test_keys_are_missing_on_purpose(vlmd, tmp_path):
    """The secret as it is delivered opens nothing: the gateway does not start with it."""
    (secret,) = of_kind("Secret")
    path = tmp_path / "keys"
    path.write_text(secret["stringData"]["keys"])
    r = vlmd("gateway", "--worker", "127.0.0.1:1", "--listen", "127.0.0.1:0", "--api-key-file", path)
    assert r.code == 1 and b"key" in r.err


def test_manifests_run(tmp_path):
    """Gateway and worker with the manifests' own words, on this machine's addresses."""
    needs_localhost()
    args = {m["metadata"]["name"]: m["spec"]["template"]["spec"]["containers"][0]["args"] for m in of_kind("Deployment")}
    keys = tmp_path / "keys"
    keys.write_text("test-key\n")
    words = [w.replace("--listen=0.0.0.0:50051", "--listen=127.0.0.1:0") for w in args["vlmd-worker"]]
    words = ["mock" if w.startswith("/models/") else w for w in words]
    with Server(*words) as worker:
        words = [w.replace("--listen=0.0.0.0:8080", "--listen=127.0.0.1:0").replace("/etc/vlmd/keys", str(keys))
                 .replace("dns:///vlmd-workers:50051", f"dns:///localhost:{worker.port}") for w in args["vlmd-gateway"]]
        with Server(*words) as gateway:
            api = Api(gateway, Authorization="Bearer test-key").wait_ready()
            assert api.text("as in Kubernetes") == "mock: as in Kubernetes"
            bare = httpx.Client(base_url=gateway.url, trust_env=False)
            assert [bare.get(p).status_code for p in ("/livez", "/readyz", "/metrics", "/health")] == [200, 200, 401, 401]
            assert bare.post("/v1/chat/completions", json=chat()).status_code == 401
            page = api.http.get("/metrics").text
            kinds = {n: k.upper() for n, k in re.findall(r"^# TYPE (\S+) (\S+)$", page, re.M)}
            assert kinds == metrics_of_program()


def unit():
    """Key -> values of vlmd.service, in order."""
    found = {}
    for line in read("deploy/vlmd.service").splitlines():
        if "=" in line and not line.startswith("#"):
            key, value = line.split("=", 1)
            found.setdefault(key, []).append(value)
    return found


def test_unit():
    u = unit()
    assert u["Type"] == ["notify"] and u["NotifyAccess"] == ["main"] and int(u["WatchdogSec"][0]) > 0
    start = u["ExecStart"][0]
    assert float(re.search(r"--shutdown-timeout (\d+)", start).group(1)) < float(u["TimeoutStopSec"][0])
    for key, value in {"NoNewPrivileges": "yes", "ProtectSystem": "strict", "MemoryDenyWriteExecute": "yes",
                       "CapabilityBoundingSet": "", "LimitCORE": "0", "Restart": "on-failure"}.items():
        assert u[key] == [value], key


def test_unit_is_hardened(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze (package systemd) is not here")
    p = subprocess.run(["systemd-analyze", "security", "--offline=true", "--no-pager", os.path.join(DEPLOY, "vlmd.service")],
                       capture_output=True, text=True, env=clean_environment(), timeout=60)
    score = re.search(r"Overall exposure level for \S+: ([\d.]+)", p.stdout)
    assert score, p.stdout + p.stderr
    assert float(score.group(1)) <= 2.0
