"""What is installed and packaged, and that it works from there: manual, completions, tarball, .deb, unit."""
import gzip
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import tarfile

import pytest

from conftest import clean_environment
from helpers import DEMO, ROOT

SHARE = os.path.join(ROOT, "build/share")
INSTALLED = {
    "bin/vlmd", "share/man/man1/vlmd.1.gz", "share/bash-completion/completions/vlmd",
    "share/zsh/site-functions/_vlmd", "share/fish/vendor_completions.d/vlmd.fish", "share/doc/vlmd/README.md",
    "share/doc/vlmd/operations.md", "share/doc/vlmd/copyright", "share/doc/vlmd/third-party.gz",
    *(f"share/doc/vlmd/examples/{name}" for name in os.listdir(os.path.join(DEMO, "examples"))),
}
TARBALL_LEN_MAX = 15_000_000


def need(*tools):
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")


def sh(*command, **environment):
    p = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT, env=clean_environment(**environment))
    assert p.returncode == 0, (command, p.stdout, p.stderr)
    return p.stdout


def files_below(folder):
    return {os.path.relpath(os.path.join(d, f), folder) for d, _, files in os.walk(folder) for f in files}


def answers(program, **environment):
    return sh(program, "run", "demo", "-i", os.path.join(DEMO, "examples/three.png"), "-p", "How many shapes are there?",
              **environment) == "There are 3 shapes.\n"


def options_of(command):
    text = sh(os.path.join(ROOT, "build/vlmd"), command, "--help")
    return set(re.findall(r"^ +(?:-\w, )?(--[a-z0-9-]+)", text, re.M))


# Help on one screen

def test_help_fits_a_screen(vlmd):
    lines = vlmd("help").out.decode().splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 80, lines


def test_long_help_has_sections(vlmd):
    text = vlmd("serve", "--help").out.decode()
    sections = re.findall(r"\n\n([A-Z].*):\n      ", text)
    assert "Service" in sections and "Log" in sections and len(sections) == len(set(sections))
    assert not re.search(r"\n\n[A-Z].*:\n", vlmd("trace", "--help").out.decode()) or len(options_of("trace")) > 12
    for line in text.splitlines():
        assert len(line) <= 80 or "|" in line, line


# Installing

def test_install_and_uninstall(tmp_path):
    sh("tools/package.sh", "install", "/opt/vlmd", DESTDIR=str(tmp_path))
    prefix = tmp_path / "opt/vlmd"
    assert files_below(tmp_path) == {f"opt/vlmd/{path}" for path in INSTALLED}
    program = str(prefix / "bin/vlmd")
    assert ".symtab" not in sh("readelf", "-SW", program)
    assert answers(program)
    assert b"OpenSSL" in gzip.decompress((prefix / "share/doc/vlmd/third-party.gz").read_bytes())
    sh("make", "uninstall", f"DESTDIR={tmp_path}")
    assert files_below(tmp_path) == set()


# The tarball

@pytest.fixture(scope="module")
def tarball():
    path = os.path.join(ROOT, sh("tools/package.sh", "tar", SOURCE_DATE_EPOCH="1700000000").strip())
    with open(path, "rb") as f:
        return path, f.read()


def test_tarball(tarball, tmp_path):
    path, data = tarball
    assert len(data) <= TARBALL_LEN_MAX
    with open(path + ".sha256", encoding="ascii") as f:
        assert f.read() == f"{hashlib.sha256(data).hexdigest()}  {os.path.basename(path)}\n"
    name = os.path.basename(path).removesuffix(".tar.gz")
    assert re.fullmatch(r"vlmd-\d+\.\d+\.\d+-linux-\w+", name)
    with tarfile.open(path) as tar:
        members = tar.getmembers()
        assert [m.name for m in members] == sorted((m.name for m in members), key=lambda n: n.split("/"))
        assert {(m.uid, m.gid, m.uname, m.gname, m.mtime) for m in members} == {(0, 0, "", "", 1700000000)}
        assert {m.mode for m in members} == {0o755, 0o644}
        tar.extractall(tmp_path)
    assert files_below(tmp_path) == {f"{name}/{p}" for p in INSTALLED | {"README.md", "LICENSE"}}
    # Nothing but the program is needed, and no environment.
    p = subprocess.run([str(tmp_path / name / "bin/vlmd"), "run", "-i", "share/doc/vlmd/examples/three.png", "-p",
                        "How many shapes are there?"], cwd=tmp_path / name, env={}, capture_output=True, timeout=60)
    assert p.returncode == 0 and p.stdout == b"There are 3 shapes.\n", p.stderr


def test_tarball_is_reproducible(tarball):
    path, data = tarball
    sh("tools/package.sh", "tar", SOURCE_DATE_EPOCH="1700000000")
    with open(path, "rb") as f:
        assert f.read() == data


def test_lowest_glibc_is_documented():
    """README names the glibc that the program needs."""
    versions = re.findall(r"GLIBC_(\d+)\.(\d+)", sh("readelf", "--dyn-syms", "-W", os.path.join(ROOT, "build/vlmd")))
    highest = max((int(a), int(b)) for a, b in versions)
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as f:
        named = re.search(r"glibc (\d+)\.(\d+)", f.read())
    assert named and highest <= (int(named.group(1)), int(named.group(2)))


# The .deb

@pytest.fixture(scope="module")
def deb():
    need("dpkg-deb", "cpack")
    return sh("tools/package.sh", "deb").strip()


def test_deb(deb, tmp_path):
    fields = dict(re.findall(r"^([\w-]+): (.*)$", sh("dpkg-deb", "-f", deb), re.M))
    assert fields["Package"] == "vlmd" and fields["Priority"] == "optional"
    assert f"vlmd {fields['Version']}\n" == sh(os.path.join(ROOT, "build/vlmd"), "version")
    assert os.path.basename(deb) == f"vlmd_{fields['Version']}_{fields['Architecture']}.deb"
    depends = {re.split(r"[ (]", d.strip())[0] for d in fields["Depends"].split(",")}
    assert depends == {"libc6", "libcurl4", "ca-certificates"}
    with open(os.path.join(ROOT, "deploy/debian/changelog"), encoding="utf-8") as f:
        assert f.readline().startswith(f"vlmd ({fields['Version']}) ")
    sh("dpkg-deb", "-R", deb, str(tmp_path))
    below = {p for p in files_below(tmp_path) if not p.startswith("DEBIAN/")}
    zsh = {"share/zsh/site-functions/_vlmd"}
    assert below == {f"usr/{p}" for p in INSTALLED - zsh} | {
        "usr/share/zsh/vendor-completions/_vlmd", "usr/share/doc/vlmd/changelog.gz", "usr/lib/sysusers.d/vlmd.conf",
        "usr/share/lintian/overrides/vlmd", "lib/systemd/system/vlmd.service", "etc/vlmd/vlmd.env"}
    assert (tmp_path / "DEBIAN/conffiles").read_text() == "/etc/vlmd/vlmd.env\n"
    for script in ("postinst", "prerm", "postrm"):
        assert os.access(tmp_path / "DEBIAN" / script, os.X_OK)
        sh("sh", "-n", str(tmp_path / "DEBIAN" / script))
    unit = (tmp_path / "lib/systemd/system/vlmd.service").read_text()
    assert "ExecStart=/usr/bin/vlmd serve " in unit and "/usr/local" not in unit
    for line in sh("dpkg-deb", "-c", deb).splitlines():
        assert " root/root " in line, line
    assert answers(str(tmp_path / "usr/bin/vlmd"))


def test_deb_scripts_do_without_systemd(deb, tmp_path):
    """In a container: no systemd, nothing to reload, and nothing fails."""
    sh("dpkg-deb", "-e", deb, str(tmp_path))
    if os.path.exists("/run/systemd/system"):
        pytest.skip("this machine runs systemd")
    for words in (["postinst", "configure", ""], ["prerm", "remove"], ["postrm", "remove"]):
        sh("/bin/sh", str(tmp_path / words[0]), *words[1:], PATH="/nonexistent")


# The service

def test_environment_file_is_of_the_program():
    with open(os.path.join(ROOT, "deploy/vlmd.env"), encoding="utf-8") as f:
        names = re.findall(r"^#?VLMD_([A-Z_]+)=", f.read(), re.M)
    assert len(names) >= 4
    for name in names:
        assert "--" + name.lower().replace("_", "-") in options_of("serve")


# The manual

def test_manual_is_clean():
    need("groff")
    p = subprocess.run(["groff", "-man", "-Tutf8", "-ww", os.path.join(SHARE, "vlmd.1")], capture_output=True,
                       timeout=60, env=clean_environment())
    assert p.returncode == 0 and p.stderr == b"", p.stderr
    text = re.sub("\x1b\\[[0-9;]*m|.\x08", "", p.stdout.decode()).replace("−", "-").replace("‐", "-")
    for command in ("run", "serve", "worker", "completion"):
        assert re.search(rf"^ {{7}}{command}\b", text, re.M), command
        for option in options_of(command):
            assert option in text, option
    assert "exit status" in text.lower() and "VLMD_A_B" in text


def test_manual_passes_mandoc():
    need("mandoc")
    p = subprocess.run(["mandoc", "-T", "lint", os.path.join(SHARE, "vlmd.1")], capture_output=True, timeout=60)
    assert p.returncode == 0 and p.stdout == b"", p.stdout


# Completions

COMPLETIONS = [
    # words before the cursor, what must be offered, what must not
    (["vlmd", ""], {"run", "serve", "completion", "help"}, {"--dtype", "demo"}),
    (["vlmd", "se"], {"serve"}, {"run"}),
    (["vlmd", "help", "do"], {"doctor"}, {"demo"}),
    (["vlmd", "completion", ""], {"bash", "zsh", "fish"}, {"run"}),
    (["vlmd", "run", "--d"], {"--dtype", "--device"}, {"--decode"}),
    (["vlmd", "run", "--dtype", ""], {"auto", "f16", "q4"}, {"demo", "photo.jpg"}),
    (["vlmd", "run", "--dtype", "q"], {"q8", "q4"}, {"auto"}),
    (["vlmd", "run", "--device", ""], {"cpu"}, {"cuda"}),
    (["vlmd", "run", "-i", "ph"], {"photo.jpg"}, {"demo"}),
    (["vlmd", "serve", ""], {"demo", "mock", "org-a/model.b-1", "two words"}, {"run"}),
    (["vlmd", "run", ""], {"demo", "org-a/model.b-1", "photo.jpg"}, {"mock"}),
    (["vlmd", "serve", "org-a/"], {"org-a/model.b-1"}, {"demo"}),
    (["vlmd", "tokenize", "--"], {"--decode"}, {"--dtype"}),
]
IDS = [f"{'-'.join(w[1:])}_{i}" for i, (w, _, _) in enumerate(COMPLETIONS)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with files, and a cache in which a model has a name that a shell might run."""
    folder = tmp_path_factory.mktemp("completion")
    for name in ("photo.jpg", "two words"):
        (folder / name).write_text("")
    hub = folder / "hf/hub"
    for name in ("models--org-a--model.b-1", "models--x--$(touch ran)", "models--x--`touch ran`", "datasets--o--d"):
        (hub / name).mkdir(parents=True)
    yield folder
    assert not (folder / "ran").exists()


def shell(place, *command):
    environment = clean_environment(HF_HOME=str(place / "hf"), HOME=str(place), TERM="dumb")
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        environment.pop(name, None)
    p = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=place, env=environment)
    assert p.returncode == 0 and p.stderr == "", (p.stdout, p.stderr)
    return p.stdout


def check(offered, wanted, unwanted):
    assert wanted <= offered and not unwanted & offered, offered


def bash_offers(place, words, cursor=None):
    script = (f"source {SHARE}/completion.bash; COMP_WORDS=({shlex.join(words)}); COMP_CWORD={cursor or len(words) - 1}; "
              "_vlmd; printf '%s\\n' \"${COMPREPLY[@]}\"")
    return set(shell(place, "bash", "--norc", "-c", script).splitlines())


@pytest.mark.parametrize("words, wanted, unwanted", COMPLETIONS, ids=IDS)
def test_bash(place, words, wanted, unwanted):
    check(bash_offers(place, words), wanted, unwanted)


def test_bash_knows_every_option(place):
    for command in ("run", "serve", "gateway", "worker", "bench", "inspect"):
        assert bash_offers(place, ["vlmd", command, "--"]) == options_of(command) | {"--help"}


def test_bash_after_an_equals_sign(place):
    """Readline makes three words of --dtype=q."""
    assert bash_offers(place, ["vlmd", "run", "--dtype", "=", "q"]) == {"q8", "q4"}
    assert "auto" in bash_offers(place, ["vlmd", "run", "--dtype", "="])


@pytest.mark.parametrize("words, wanted, unwanted", COMPLETIONS, ids=IDS)
def test_fish(place, words, wanted, unwanted):
    need("fish")
    line = " ".join(words)
    out = shell(place, "fish", "--no-config", "-c", f"source {SHARE}/completion.fish; complete -C {shlex.quote(line)}")
    check({row.split("\t")[0] for row in out.splitlines()}, wanted, unwanted)


# Completion runs in the line editor of an interactive shell only: one lives in a pseudo-terminal of zsh's own, and what it
# adds is printed too.  It must have the terminal first, or ^U takes what was typed ahead.
ZSH = r"""
zmodload zsh/zpty
zpty z zsh -f -i
zpty -w z 'PROMPT=; autoload -Uz compinit; compinit -D -u; source %s; cd %s'
zpty -w z 'compadd() { local -a o; builtin compadd -O o "$@"; print -rl -- "<"${^o}">"; builtin compadd "$@" }'
zpty -w z 'zle-line-init() { print -n edit""s }; zle -N zle-line-init; bindkey "^I" complete-word; echo rea""dy'
zpty -r z line '*ready*edits*'
zpty -n -w z %s$'\t'
zpty -w z $'\x15'' echo do""ne'
zpty -r z line '*done*'
print -r -- $line
"""


@pytest.mark.parametrize("words, wanted, unwanted", COMPLETIONS, ids=IDS)
def test_zsh(place, words, wanted, unwanted):
    need("zsh")
    script = ZSH % (f"{SHARE}/completion.zsh", shlex.quote(str(place)), shlex.quote(" ".join(words)))
    out = shell(place, "zsh", "-f", "-c", script)
    check({word.replace("\\", "") for word in re.findall(r"<([^>\r\n]+)>", out)}, wanted, unwanted)


@pytest.mark.parametrize("shell_name", ["bash", "zsh", "fish"])
def test_scripts_parse(shell_name):
    need(shell_name)
    sh(shell_name, "-n", os.path.join(SHARE, f"completion.{shell_name}"))


def test_completion_of_another_shell_is_wrong_usage(vlmd):
    r = vlmd("completion", "tcsh")
    assert r.code == 2 and r.out == b"" and r.err == b"vlmd: completion is for bash, zsh or fish, not 'tcsh'\n", r


def test_completion_to_a_full_disk(vlmd):
    with open("/dev/full", "wb") as full:
        p = subprocess.run([vlmd.program, "completion", "zsh"], stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert p.returncode == 1 and b"No space left" in p.stderr
