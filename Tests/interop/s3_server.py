"""SeaweedFS: an S3-compatible server that checks signatures, with a bucket and one identity."""

import hashlib
import json
import os
import re
import sys
import urllib.parse
import urllib.request
from pathlib import Path

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from processes import Process, answers, free_port

BUCKET = "commune-test"


class S3Server:
    """A server of its own in `folder`; it may be killed and started again with its data."""

    def __init__(self, folder: Path):
        self.folder = folder / "s3"
        self.folder.mkdir()
        self.access_key = os.urandom(8).hex()
        self.secret_key = os.urandom(16).hex()
        self.port = free_port()
        identity = {
            "name": "commune",
            "credentials": [{"accessKey": self.access_key, "secretKey": self.secret_key}],
            "actions": ["Admin", "Read", "Write", "List"],
        }
        (self.folder / "identities.json").write_text(json.dumps({"identities": [identity]}))
        self.process = None
        self.start()

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port}"

    def environment(self, **changes):
        """Settings of our programs that keep blobs here."""
        return {
            "COMMUNE_BLOBS": f"s3://{BUCKET}/blobs?endpoint={self.endpoint}&region=eu-test-1",
            "COMMUNE_S3_ACCESS_KEY_ID": self.access_key,
            "COMMUNE_S3_SECRET_ACCESS_KEY": self.secret_key,
            **changes,
        }

    def start(self):
        """Starts it and waits until it takes files."""
        weed = Path(sys.executable).with_name("weed")
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        filer = free_port()
        # Each port by name: the others are made from these by adding 10,000, or fixed.
        names = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port.grpc", "s3.port.grpc")
        ports = [f"-{name}={free_port()}" for name in names]
        none = ["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false", "-s3.iam=false"]
        self.process = Process(
            "weed",
            [
                weed, "-logtostderr=true", "server", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
                "-s3", f"-s3.port={self.port}", f"-s3.config={self.folder / 'identities.json'}",
                "-volume.max=20", "-master.volumeSizeLimitMB=128", f"-filer.port={filer}", *ports, *none,
            ],  # fmt: skip
            self.folder / "weed.log",
        )
        self.process.await_ready(lambda: answers(self.port) and self._takes_files(filer), within=60)
        if BUCKET not in self._request("GET", "/", {}):
            self._request("PUT", f"/{BUCKET}", {})

    def objects(self):
        """The keys in our bucket, as the data's owner sees them."""
        listing = self._request("GET", f"/{BUCKET}", {"list-type": "2", "max-keys": "1000"})
        return re.findall(r"<Key>([^<]+)</Key>", listing)

    def kill(self):
        self.process.kill()

    @staticmethod
    def _takes_files(filer):
        request = urllib.request.Request(f"http://127.0.0.1:{filer}/probe/file", b"probe", method="PUT")
        try:
            with urllib.request.urlopen(request, timeout=5) as response:
                return response.status < 300
        except OSError:
            return False

    def _request(self, method, path, query):
        """A request signed by botocore, so that our own signatures are not needed to look."""
        url = f"{self.endpoint}{path}?{urllib.parse.urlencode(query)}"
        signed = AWSRequest(method, url, headers={"x-amz-content-sha256": hashlib.sha256(b"").hexdigest()})
        S3SigV4Auth(Credentials(self.access_key, self.secret_key), "s3", "eu-test-1").add_auth(signed)
        request = urllib.request.Request(url, headers=dict(signed.headers), method=method)
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.read().decode()
