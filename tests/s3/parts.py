"""An upload of parts, from its beginning to its end, as several modules need one.

`Upload` keeps the place and the list that completes it. It asserts nothing.
"""

import hashlib
import os

MIN = 5 << 20


def upload_tag(contents):
    """The ETag of an object of these parts: the digest of their digests, and how many they are."""
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
        """The arguments that name it."""
        return {"Bucket": self.bucket, "Key": self.key, "UploadId": self.id}

    def part(self, number, content, **how):
        """Uploads a part; what completes the upload with it is remembered."""
        answer = self.s3.upload_part(PartNumber=number, Body=content, **self.place, **how)
        self.done[number] = {"PartNumber": number, "ETag": answer["ETag"]}
        self.contents[number] = content
        return answer

    def parts(self):
        """The list that completes it."""
        return {"Parts": [self.done[number] for number in sorted(self.done)]}

    def content(self):
        """The bytes of all parts, in order."""
        return b"".join(self.contents[number] for number in sorted(self.contents))

    def complete(self, **how):
        """Completes it with all parts, in order."""
        return self.s3.complete_multipart_upload(**{"MultipartUpload": self.parts(), **self.place, **how})


def uploaded(s3, bucket, key, sizes, **how):
    """An object made of random parts of these sizes; their bytes."""
    upload = Upload(s3, bucket, key, **how)
    contents = [os.urandom(size) for size in sizes]
    for number, content in enumerate(contents, 1):
        upload.part(number, content)
    upload.complete()
    return contents
