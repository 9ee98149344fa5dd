"""nginx with one worker that answers 200 `ok`: over HTTP/1.1, HTTP/1.1 in TLS, HTTP/2 and HTTP/2 in TLS."""

import contextlib
import dataclasses
import pathlib
import subprocess
import tempfile

from processes import free_ports, server

CONFIG = """
worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/error.log crit;
events {{ worker_connections 4096; }}
http {{
    access_log off; keepalive_requests 1000000000; keepalive_timeout 600s;
    client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem; ssl_protocols TLSv1.3; ssl_session_cache shared:all:1m;
    server {{
        listen 127.0.0.1:{http} reuseport; listen 127.0.0.1:{https} ssl reuseport;
        location / {{ default_type text/plain; return 200 "ok"; }}
    }}
    server {{
        listen 127.0.0.1:{h2c} http2 reuseport; listen 127.0.0.1:{h2} ssl http2 reuseport;
        location / {{ default_type text/plain; return 200 "ok"; }}
    }}
}}
"""


@dataclasses.dataclass
class Urls:
    http: str
    https: str
    h2c: str
    h2: str


@contextlib.contextmanager
def nginx(core):
    """Serves on loopback while the block goes on; leaves nothing behind."""
    ports = free_ports(4)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        _certificate(folder)
        config = folder / "nginx.conf"
        config.write_text(CONFIG.format(folder=folder, http=ports[0], https=ports[1], h2c=ports[2], h2=ports[3]))
        with server(["nginx", "-p", name, "-e", str(folder / "error.log"), "-c", str(config)], core, ports[0]):
            at = "{}://127.0.0.1:{}/".format
            yield Urls(at("http", ports[0]), at("https", ports[1]), at("http", ports[2]), at("https", ports[3]))


def _certificate(folder):
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(command + names + files, check=True, capture_output=True)
