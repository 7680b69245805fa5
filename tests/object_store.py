"""Asks an S3 store for everything that it should do, with boto3. One argument: its endpoint."""

import hashlib
import io
import os
import sys
import urllib.error
import urllib.request

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.client import Config
from botocore.exceptions import ClientError

endpoint = sys.argv[1]
s3 = boto3.client("s3", endpoint_url=endpoint, config=Config(s3={"addressing_style": "path"}, signature_version="s3v4", retries={"max_attempts": 1}))


def code(call, **arguments):
    """The error code of a call that has to fail."""
    try:
        call(**arguments)
    except ClientError as error:
        return error.response["Error"]["Code"]
    raise AssertionError(f"{call} with {arguments} succeeded")


B = "check-bucket"
s3.create_bucket(Bucket=B)
assert code(s3.create_bucket, Bucket=B) == "BucketAlreadyOwnedByYou"
assert B in [b["Name"] for b in s3.list_buckets()["Buckets"]]
s3.head_bucket(Bucket=B)
assert code(s3.head_bucket, Bucket="not-there") == "404"
assert code(s3.list_objects_v2, Bucket="not-there") == "NoSuchBucket"

# Objects, their headers, ranges.
body = bytes(range(256)) * 1000
put = s3.put_object(Bucket=B, Key="a", Body=body, ContentType="x/y", Metadata={"k": "v"}, CacheControl="no-store")
assert put["ETag"].strip('"') == hashlib.md5(body).hexdigest()
got = s3.get_object(Bucket=B, Key="a")
assert got["Body"].read() == body and got["ContentType"] == "x/y" and got["Metadata"] == {"k": "v"}
assert got["CacheControl"] == "no-store" and got["AcceptRanges"] == "bytes"
for header, expected in [("bytes=0-9", body[:10]), ("bytes=-5", body[-5:]), ("bytes=255990-", body[255990:]), ("bytes=255990-999999", body[255990:])]:
    part = s3.get_object(Bucket=B, Key="a", Range=header)
    assert part["ResponseMetadata"]["HTTPStatusCode"] == 206 and part["Body"].read() == expected, header
assert code(s3.get_object, Bucket=B, Key="a", Range="bytes=256000-") == "InvalidRange"
assert s3.head_object(Bucket=B, Key="a")["ContentLength"] == len(body)
assert code(s3.head_object, Bucket=B, Key="none") == "404"
assert code(s3.get_object, Bucket=B, Key="none") == "NoSuchKey"
s3.put_object(Bucket=B, Key="empty", Body=b"")
assert s3.get_object(Bucket=B, Key="empty")["Body"].read() == b""

# Checksums and digests.
s3.put_object(Bucket=B, Key="sum", Body=b"hello", ChecksumAlgorithm="SHA256")
assert s3.head_object(Bucket=B, Key="sum", ChecksumMode="ENABLED")["ChecksumSHA256"] == "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ="
assert code(s3.put_object, Bucket=B, Key="bad", Body=b"hello", ChecksumCRC32="AAAAAA==") == "BadDigest"
assert code(s3.put_object, Bucket=B, Key="bad", Body=b"hello", ContentMD5="AAAAAAAAAAAAAAAAAAAAAA==") == "BadDigest"
assert code(s3.head_object, Bucket=B, Key="bad") == "404"

# Conditions.
assert code(s3.put_object, Bucket=B, Key="a", Body=b"", IfNoneMatch="*") == "PreconditionFailed"
s3.put_object(Bucket=B, Key="fresh", Body=b"1", IfNoneMatch="*")
assert code(s3.put_object, Bucket=B, Key="fresh", Body=b"2", IfMatch='"0"') == "PreconditionFailed"
s3.put_object(Bucket=B, Key="fresh", Body=b"2", IfMatch=s3.head_object(Bucket=B, Key="fresh")["ETag"])
assert code(s3.get_object, Bucket=B, Key="a", IfMatch='"0"') == "PreconditionFailed"
assert code(s3.get_object, Bucket=B, Key="a", IfNoneMatch=put["ETag"]) == "304"

# Any legal key: beside each other, above each other, with every odd character.
odd = ["k", "k/", "k/l", "k//l", "../up", "./here", "a+b c%2F?&=#;", "ü/Δ/漢字", "tab\there", "x" * 1024, "quote\"'<>&", "back\\slash", "~tilde*"]
for n, key in enumerate(odd):
    s3.put_object(Bucket=B, Key="odd/" + key if len(key) < 1000 else key, Body=str(n).encode())
for n, key in enumerate(odd):
    assert s3.get_object(Bucket=B, Key="odd/" + key if len(key) < 1000 else key)["Body"].read() == str(n).encode(), key
listed = {o["Key"] for o in s3.list_objects_v2(Bucket=B, Prefix="odd/")["Contents"]}
assert listed == {"odd/" + k for k in odd if len(k) < 1000}, listed ^ {"odd/" + k for k in odd}
assert code(s3.put_object, Bucket=B, Key="x" * 1025, Body=b"") in ("KeyTooLongError", "InvalidURI", "InvalidArgument")
s3.create_bucket(Bucket="other-bucket")
s3.put_object(Bucket="other-bucket", Key="secret", Body=b"s")
assert code(s3.get_object, Bucket=B, Key="../other-bucket/secret") == "NoSuchKey"

# Lists: order, pages, delimiters, both versions.
L = "list-bucket"
s3.create_bucket(Bucket=L)
keys = sorted(f"d{n % 7}/f{n:03}" for n in range(50)) + [f"top{n}" for n in range(5)]
for key in keys:
    s3.put_object(Bucket=L, Key=key, Body=b"x")
pages = s3.get_paginator("list_objects_v2").paginate(Bucket=L, PaginationConfig={"PageSize": 7})
assert [o["Key"] for page in pages for o in page.get("Contents", [])] == keys
pages = s3.get_paginator("list_objects").paginate(Bucket=L, PaginationConfig={"PageSize": 7})
assert [o["Key"] for page in pages for o in page.get("Contents", [])] == keys
for version in ("list_objects_v2", "list_objects"):
    for size in (1, 2, 3, 5, 100):
        prefixes, contents = [], []
        for page in s3.get_paginator(version).paginate(Bucket=L, Delimiter="/", PaginationConfig={"PageSize": size}):
            prefixes += [p["Prefix"] for p in page.get("CommonPrefixes", [])]
            contents += [o["Key"] for o in page.get("Contents", [])]
            assert len(page.get("CommonPrefixes", [])) + len(page.get("Contents", [])) <= size
        assert prefixes == [f"d{n}/" for n in range(7)], (version, size, prefixes)
        assert contents == [f"top{n}" for n in range(5)], (version, size, contents)
assert [o["Key"] for o in s3.list_objects_v2(Bucket=L, StartAfter="top2")["Contents"]] == ["top3", "top4"]
assert s3.list_objects_v2(Bucket=L, Prefix="none")["KeyCount"] == 0
assert s3.list_objects_v2(Bucket=L, Prefix="d1/", Delimiter="/")["KeyCount"] == len([k for k in keys if k.startswith("d1/")])

# Multipart.
big = bytes(range(251)) * 80000
s3.upload_fileobj(io.BytesIO(big), B, "big", Config=TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20))
assert s3.get_object(Bucket=B, Key="big")["Body"].read() == big
assert s3.get_object(Bucket=B, Key="big", Range="bytes=5242870-5242889")["Body"].read() == big[5242870:5242890]
upload = s3.create_multipart_upload(Bucket=B, Key="mp", ContentType="m/p")["UploadId"]
assert [u["UploadId"] for u in s3.list_multipart_uploads(Bucket=B)["Uploads"]] == [upload]
one = s3.upload_part(Bucket=B, Key="mp", UploadId=upload, PartNumber=1, Body=big[: 5 << 20])["ETag"]
two = s3.upload_part_copy(Bucket=B, Key="mp", UploadId=upload, PartNumber=2, CopySource={"Bucket": B, "Key": "big"}, CopySourceRange="bytes=0-99")
assert [p["PartNumber"] for p in s3.list_parts(Bucket=B, Key="mp", UploadId=upload)["Parts"]] == [1, 2]
parts = [{"PartNumber": 1, "ETag": one}, {"PartNumber": 2, "ETag": two["CopyPartResult"]["ETag"]}]
finish = dict(Bucket=B, Key="mp", UploadId=upload)
assert code(s3.complete_multipart_upload, **finish, MultipartUpload={"Parts": parts[::-1]}) == "InvalidPartOrder"
assert code(s3.complete_multipart_upload, **finish, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": '"x"'}]}) == "InvalidPart"
s3.complete_multipart_upload(**finish, MultipartUpload={"Parts": parts})
whole = s3.get_object(Bucket=B, Key="mp")
assert whole["Body"].read() == big[: 5 << 20] + big[:100] and whole["ContentType"] == "m/p"
assert code(s3.upload_part, **finish, PartNumber=3, Body=b"") == "NoSuchUpload"
upload = s3.create_multipart_upload(Bucket=B, Key="gone")["UploadId"]
s3.upload_part(Bucket=B, Key="gone", UploadId=upload, PartNumber=1, Body=b"x")
s3.abort_multipart_upload(Bucket=B, Key="gone", UploadId=upload)
assert "Uploads" not in s3.list_multipart_uploads(Bucket=B) and code(s3.head_object, Bucket=B, Key="gone") == "404"

# Copies.
s3.copy_object(Bucket=B, Key="copied", CopySource={"Bucket": B, "Key": "a"})
assert s3.get_object(Bucket=B, Key="copied")["Metadata"] == {"k": "v"}
s3.copy_object(Bucket=B, Key="copied", CopySource={"Bucket": B, "Key": "big"}, MetadataDirective="REPLACE", Metadata={"n": "w"})
assert s3.head_object(Bucket=B, Key="copied")["Metadata"] == {"n": "w"}
assert s3.get_object(Bucket=B, Key="copied")["Body"].read() == big

# Presigned links, and who is let in.
link = s3.generate_presigned_url("get_object", Params={"Bucket": B, "Key": "sum"}, ExpiresIn=60)
assert urllib.request.urlopen(link).read() == b"hello"
send = urllib.request.Request(s3.generate_presigned_url("put_object", Params={"Bucket": B, "Key": "sent"}), data=b"sent", method="PUT")
urllib.request.urlopen(send)
assert s3.get_object(Bucket=B, Key="sent")["Body"].read() == b"sent"


def status(url):
    try:
        return urllib.request.urlopen(url).status
    except urllib.error.HTTPError as error:
        return error.code


assert status(link.replace("/sum?", "/a?")) == 403, "a link for one object opened another"
assert status(f"{endpoint}/{B}/sum") == 403, "anonymous"
stranger = dict(endpoint_url=endpoint, config=Config(retries={"max_attempts": 1}))
assert code(boto3.client("s3", aws_access_key_id="no", aws_secret_access_key="x", **stranger).list_objects_v2, Bucket=B) == "InvalidAccessKeyId"

wrong = boto3.client("s3", aws_access_key_id=os.environ["AWS_ACCESS_KEY_ID"], aws_secret_access_key="x", **stranger)
assert code(wrong.list_objects_v2, Bucket=B) == "SignatureDoesNotMatch"

# Removal.
assert code(s3.delete_bucket, Bucket=L) == "BucketNotEmpty"
for bucket in (B, L, "other-bucket"):
    while contents := s3.list_objects_v2(Bucket=bucket).get("Contents"):
        answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": o["Key"]} for o in contents]})
        assert len(answer["Deleted"]) == len(contents)
    s3.delete_bucket(Bucket=bucket)
print("all good")
