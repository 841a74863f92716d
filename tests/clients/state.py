"""The requests of Terraform's S3 backend: state under a lock file with one holder at a time, named workspaces.

`terraform.sh` runs the program itself where it is installed; neither Debian nor PyPI has it, so this stands in
for it everywhere. The lock is an object that is created only if it does not exist.
"""

import base64
import hashlib
import json
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

from botocore.exceptions import ClientError

import store
from store import step


class Workspace:
    """One run of the program on one state."""

    def __init__(self, bucket, key="env/terraform.tfstate"):
        self.s3 = store.connect(retries={"total_max_attempts": 1})
        self.bucket, self.key, self.lock_key = bucket, key, f"{key}.tflock"
        self.id = str(uuid.uuid4())

    def lock(self):
        """Takes the lock; returns the id of its holder if that is another run."""
        info = json.dumps({"ID": self.id, "Operation": "OperationTypeApply", "Path": f"{self.bucket}/{self.key}"})
        try:
            self.s3.put_object(
                Bucket=self.bucket,
                Key=self.lock_key,
                Body=info.encode(),
                ContentType="application/json",
                ChecksumAlgorithm="SHA256",
                IfNoneMatch="*",
            )
            return None
        except ClientError as e:
            assert e.response["Error"]["Code"] in ("PreconditionFailed", "ConditionalRequestConflict"), e
        try:
            held = self.s3.get_object(Bucket=self.bucket, Key=self.lock_key)["Body"].read()
            return json.loads(held)["ID"]
        except self.s3.exceptions.NoSuchKey:
            return "a holder that has gone"

    def unlock(self):
        """Releases the lock if this run holds it."""
        held = self.s3.get_object(Bucket=self.bucket, Key=self.lock_key)["Body"].read()
        assert json.loads(held)["ID"] == self.id, "another run holds the lock"
        self.s3.delete_object(Bucket=self.bucket, Key=self.lock_key)

    def read(self):
        """Returns the state, or None before the first."""
        try:
            return json.loads(self.s3.get_object(Bucket=self.bucket, Key=self.key)["Body"].read())
        except self.s3.exceptions.NoSuchKey:
            return None

    def write(self, state):
        """Replaces the state."""
        data = json.dumps(state).encode()
        self.s3.put_object(
            Bucket=self.bucket,
            Key=self.key,
            Body=data,
            ContentType="application/json",
            ContentMD5=base64.b64encode(hashlib.md5(data).digest()).decode(),
        )


def one_after_the_other(bucket):
    step("reading and writing a state under its lock")
    one, two = Workspace(bucket), Workspace(bucket)
    assert one.read() is None and one.lock() is None
    assert two.lock() == one.id
    one.write({"version": 4, "serial": 1, "resources": []})
    one.unlock()
    assert two.lock() is None
    assert two.read()["serial"] == 1
    two.unlock()


def all_at_once(bucket, workers=6, rounds=5):
    step("many writers, each incrementing the serial under the lock")
    Workspace(bucket).write({"version": 4, "serial": 0})
    inside = threading.Semaphore(1)

    def run(_):
        mine = Workspace(bucket)
        for _ in range(rounds):
            while mine.lock() is not None:
                pass
            assert inside.acquire(blocking=False), "two runs hold the lock"
            state = mine.read()
            mine.write({**state, "serial": state["serial"] + 1})
            inside.release()
            mine.unlock()

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(run, range(workers)))
    assert Workspace(bucket).read()["serial"] == workers * rounds


def workspaces(bucket):
    step("named workspaces, found by their prefix")
    for name in ["staging", "production"]:
        Workspace(bucket, f"env:/{name}/terraform.tfstate").write({"version": 4, "serial": 1})
    s3 = store.connect()
    listed = s3.list_objects_v2(Bucket=bucket, Prefix="env:/")["Contents"]
    assert [entry["Key"].split("/")[1] for entry in listed] == ["production", "staging"]


with store.place("state") as (bucket, _):
    store.connect().create_bucket(Bucket=bucket)
    one_after_the_other(bucket)
    all_at_once(bucket)
    workspaces(bucket)
step("done")
