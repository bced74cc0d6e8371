"""peers.py - the environment that the peers need, made once: a virtual environment, and llama.cpp built for this CPU
from the sources in the package llama-cpp-python, its server and its libraries from one build."""
import glob
import os
import subprocess
import sys
import tarfile

LLAMA = "llama-cpp-python==0.3.36"
TRANSFORMERS = ["transformers==5.23.0", "torch==2.15.0", "pillow"]
HERE = os.path.dirname(os.path.abspath(__file__))
CMAKE = ["-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=ON", "-DLLAMA_BUILD_TESTS=OFF",
         "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_APP=OFF", "-DLLAMA_OPENSSL=OFF", "-DLLAMA_BUILD_UI=OFF",
         "-DLLAMA_USE_PREBUILT_UI=OFF"]
AVX2 = ["-DGGML_NATIVE=OFF", "-DGGML_AVX2=ON", "-DGGML_FMA=ON", "-DGGML_F16C=ON", "-DGGML_BMI2=ON"]
# As --cpu-level of vlmd.
LEVELS = {None: ["-DGGML_NATIVE=ON"], "avx2": AVX2, "avx512": [*AVX2, "-DGGML_AVX512=ON"]}


def say(text):
    print(text, file=sys.stderr, flush=True)


class Environment:
    def __init__(self, folder, transformers_python, cpu_level):
        self.folder = os.path.abspath(folder)
        self.python = os.path.join(self.folder, "bin/python")
        self.source = os.path.join(self.folder, "src")
        self.cpu_level = cpu_level
        self.llama = os.path.join(self.source, "llama.cpp-build" + (f"-{cpu_level}" if cpu_level else ""), "bin")
        self.llama_server = os.path.join(self.llama, "llama-server")
        self.transformers_python = transformers_python or self.python

    def variables(self):
        return {**os.environ, "LLAMA_CPP_LIB_PATH": self.llama, "MTMD_CPP_LIB": self.llama, "HF_HUB_OFFLINE": "1"}

    def has(self, module, python=None):
        if not os.path.exists(python or self.python):
            return False
        p = subprocess.run([python or self.python, "-c", f"import {module}"], env=self.variables(),
                           capture_output=True, check=False)
        return p.returncode == 0

    def pip(self, *words, **variables):
        subprocess.run([self.python, "-m", "pip", "--disable-pip-version-check", "--quiet", *words], check=True,
                       env={**os.environ, **variables})

    def make(self, peers, jobs):
        """Whatever of it is not there yet."""
        if not os.path.exists(self.python):
            say(f"making {self.folder}")
            subprocess.run([sys.executable, "-m", "venv", self.folder], check=True)
        if not self.has("numpy, gguf"):
            self.pip("install", "numpy", "gguf")
        if "llama.cpp" in peers:
            if not os.path.exists(self.llama_server):
                self.build_llama(jobs)
            if not self.has("llama_cpp.mtmd_cpp"):
                # Python alone: the libraries are built already.
                self.pip("install", self.llama_source(), CMAKE_ARGS="-DLLAMA_BUILD=OFF")
        if "transformers" in peers and not self.has("torch, transformers", self.transformers_python):
            if self.transformers_python != self.python:
                sys.exit(f"{self.transformers_python} has no torch or no transformers")
            say("installing torch and transformers")
            self.pip("install", *TRANSFORMERS)

    def llama_source(self):
        return os.path.join(self.source, "llama-cpp-python")

    def fetch_llama(self):
        os.makedirs(self.source, exist_ok=True)
        say(f"fetching {LLAMA}")
        self.pip("download", "--no-deps", "--no-binary", "llama-cpp-python", "--dest", self.source, LLAMA,
                 CMAKE_ARGS="-DLLAMA_BUILD=OFF")
        archive = glob.glob(os.path.join(self.source, "llama_cpp_python-*.tar.gz"))[0]
        with tarfile.open(archive) as t:
            t.extractall(self.source)
        os.rename(archive.removesuffix(".tar.gz"), self.llama_source())

    def build_llama(self, jobs):
        if not os.path.isdir(self.llama_source()):
            self.fetch_llama()
        say(f"building llama.cpp for {self.cpu_level or 'this CPU'}; this takes some minutes")
        build = os.path.dirname(self.llama)
        with open(os.path.join(self.source, "build.log"), "ab") as log:
            for command in (["cmake", "-S", os.path.join(self.llama_source(), "vendor/llama.cpp"), "-B", build, *CMAKE,
                             *LEVELS[self.cpu_level]],
                            ["cmake", "--build", build, "--target", "llama-server", "-j", str(jobs)]):
                if subprocess.run(command, stdout=log, stderr=log, check=False).returncode != 0:
                    sys.exit(f"llama.cpp cannot be built: {log.name}")
