"""A multipart upload from start to completion, as several modules need it.

`Upload` keeps the key and the list of parts. It asserts nothing.
"""

import hashlib
import os

MIN = 5 << 20


def upload_tag(contents):
    """Returns the ETag of an object of these parts: the digest of their digests, and their number."""
    digests = b"".join(hashlib.md5(content).digest() for content in contents)
    return f'"{hashlib.md5(digests).hexdigest()}-{len(contents)}"'


class Upload:
    """One upload to one key."""

    def __init__(self, s3, bucket, key="k", **how):
        self.s3, self.bucket, self.key = s3, bucket, key
        self.id = s3.create_multipart_upload(Bucket=bucket, Key=key, **how)["UploadId"]
        self.done, self.contents = {}, {}

    @property
    def place(self):
        """Returns the arguments that identify it."""
        return {"Bucket": self.bucket, "Key": self.key, "UploadId": self.id}

    def part(self, number, content, **how):
        """Uploads a part and remembers what completes the upload with it."""
        answer = self.s3.upload_part(PartNumber=number, Body=content, **self.place, **how)
        self.done[number] = {"PartNumber": number, "ETag": answer["ETag"]}
        self.contents[number] = content
        return answer

    def parts(self):
        """Returns the list that completes it."""
        return {"Parts": [self.done[number] for number in sorted(self.done)]}

    def content(self):
        """Returns the bytes of all parts, in order."""
        return b"".join(self.contents[number] for number in sorted(self.contents))

    def complete(self, **how):
        """Completes it with all parts, in order."""
        return self.s3.complete_multipart_upload(**{"MultipartUpload": self.parts(), **self.place, **how})


def uploaded(s3, bucket, key, sizes, **how):
    """Creates an object of random parts of these sizes; returns its bytes."""
    upload = Upload(s3, bucket, key, **how)
    contents = [os.urandom(size) for size in sizes]
    for number, content in enumerate(contents, 1):
        upload.part(number, content)
    upload.complete()
    return contents
