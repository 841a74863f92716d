// The AWS SDK for JavaScript: presigned URLs with its defaults, used with fetch as a page does, streams, a multipart
// upload, lists, and names that XML cannot hold as they are.
//
// Every download is compared with what was sent. The bucket and its contents are removed, also on failure.
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { createRequire } from 'node:module'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'

// The packages are not beside this file, where `import` looks for them.
const require = createRequire(`${process.env.BARGE_NODE_PACKAGES}/package.json`)
const {
  AbortMultipartUploadCommand, CompleteMultipartUploadCommand, CopyObjectCommand, CreateBucketCommand,
  CreateMultipartUploadCommand, DeleteBucketCommand, DeleteObjectCommand, DeleteObjectsCommand, GetObjectCommand,
  GetObjectAttributesCommand, GetObjectTaggingCommand, HeadObjectCommand, ListMultipartUploadsCommand,
  ListObjectsV2Command, ListPartsCommand, PutObjectCommand, PutObjectTaggingCommand, S3Client, UploadPartCommand,
  UploadPartCopyCommand, paginateListObjectsV2,
} = require('@aws-sdk/client-s3')
const { Upload } = require('@aws-sdk/lib-storage')
const { getSignedUrl } = require('@aws-sdk/s3-request-presigner')

const MIB = 1 << 20
const HEAD = '<?xml version="1.0" encoding="UTF-8"?>'
const XML = 'http://s3.amazonaws.com/doc/2006-03-01/'
const Bucket = `c-javascript-${randomBytes(8).toString('hex')}`
const s3 = client(process.env.BARGE_S3_KEY, process.env.BARGE_S3_SECRET)

/** A client with only the settings that a store outside AWS needs. */
function client(accessKeyId, secretAccessKey) {
  return new S3Client({
    endpoint: process.env.BARGE_S3_ENDPOINT,
    region: process.env.BARGE_S3_REGION ?? 'us-east-1',
    forcePathStyle: true,
    credentials: { accessKeyId, secretAccessKey },
    maxAttempts: 1,
  })
}

/** Prints the current step; the last one is the one that failed. */
function step(what) {
  console.log(`---- ${what}`)
}

const presigned = (command, how) => getSignedUrl(s3, command, { expiresIn: 60, ...how })
const head = (Key) => s3.send(new HeadObjectCommand({ Bucket, Key, ChecksumMode: 'ENABLED' }))
const sha256 = (data) => createHash('sha256').update(data).digest('base64')

/** Uses a URL as a page that got it from a server; reads the answer's body. */
async function use(method, url, { body, headers, status = 200 } = {}) {
  const answer = await fetch(url, { method, body, headers })
  const bytes = Buffer.from(await answer.arrayBuffer())
  assert.equal(answer.status, status, `${method} ${url}\n${bytes.subarray(0, 2000)}`)
  return { headers: answer.headers, bytes, text: bytes.toString() }
}

/** Presigns a PutObject, sends a body to it, and returns what is stored. */
async function put(Key, more, { body = randomBytes(70_000), headers } = {}) {
  await use('PUT', await presigned(new PutObjectCommand({ Bucket, Key, ...more })), { body, headers })
  await holds(Key, body)
  return head(Key)
}

/** Expects the object to have these bytes. */
async function holds(Key, bytes) {
  const { Body } = await s3.send(new GetObjectCommand({ Bucket, Key }))
  assert.equal(sha256(await buffer(Body)), sha256(bytes), `${Key} has other bytes`)
}

async function absent(Key) {
  await assert.rejects(head(Key), { name: 'NotFound' })
}

async function tags(Key) {
  const { TagSet } = await s3.send(new GetObjectTaggingCommand({ Bucket, Key }))
  return Object.fromEntries(TagSet.map((tag) => [tag.Key, tag.Value]))
}

async function uploadsByUrl() {
  step('presigned uploads')
  // The SDK puts the checksum of an empty body into the URL, because it does not know the body that will be sent.
  const url = await presigned(new PutObjectCommand({ Bucket, Key: 'any' }))
  assert.equal(new URL(url).searchParams.get('x-amz-checksum-crc32'), 'AAAAAA==')
  for (const size of [0, 1, 70_000, 3 * MIB]) {
    const body = randomBytes(size)
    await use('PUT', url, { body })
    await holds('any', body)
  }
  const blob = new Blob([randomBytes(1000)], { type: 'text/x-page' })
  await use('PUT', url, { body: blob })
  assert.equal((await head('any')).ContentType, 'text/x-page')
  const body = randomBytes(100_000)
  await use('PUT', await presigned(new PutObjectCommand({ Bucket, Key: 'known', Body: body })), { body })
  await holds('known', body)
  for (const ChecksumAlgorithm of ['CRC32', 'CRC32C', 'CRC64NVME', 'SHA1', 'SHA256']) {
    await put(`any/${ChecksumAlgorithm}`, { ChecksumAlgorithm })
  }
}

async function attributesInUrls() {
  step('presigned uploads with metadata, tags, headers')
  const Metadata = { owner: 'me', 'two-words': 'a b+c&d/e=f%20' }
  assert.deepEqual((await put('metadata', { Metadata })).Metadata, Metadata)
  await put('tags', { Tagging: 'a=1&two%20words=b%2Bc' })
  assert.deepEqual(await tags('tags'), { a: '1', 'two words': 'b+c' })
  await put('private', { ACL: 'private' })
  await put('standard', { StorageClass: 'STANDARD' })
  // The SDK does not put these into the URL: the user of the URL sends them.
  const sent = { 'content-type': 'text/x-script', 'cache-control': 'max-age=60', 'content-language': 'de' }
  const named = { ContentType: 'text/x-script', CacheControl: 'max-age=60', ContentLanguage: 'de' }
  const stored = await put('headers', named, { headers: sent })
  for (const [name, value] of Object.entries(named)) assert.equal(stored[name], value)
  const all = { ...named, Metadata, Tagging: 'a=1', ACL: 'private', StorageClass: 'STANDARD' }
  const whole = await put('all', all, { headers: sent })
  assert.deepEqual(whole.Metadata, Metadata)
  assert.equal(whole.ContentType, 'text/x-script')
  assert.equal(whole.CacheControl, 'max-age=60')
  assert.deepEqual(await tags('all'), { a: '1' })
}

async function checksumsInUrls() {
  step('presigned uploads of one body alone')
  const body = randomBytes(70_000)
  const url = (Key, how) => presigned(new PutObjectCommand({ Bucket, Key, ChecksumSHA256: sha256(body) }), how)
  await use('PUT', await url('sum'), { body })
  assert.equal((await head('sum')).ChecksumSHA256, sha256(body))
  const { text } = await use('PUT', await url('wrong'), { body: randomBytes(70_000), status: 400 })
  assert.match(text, /<Code>BadDigest<|<Code>XAmzContentChecksumMismatch</)
  await use('PUT', await url('wrong'), { body: '', status: 400 })
  await absent('wrong')
  // The same as a header, as the SDK's documentation recommends.
  const name = 'x-amz-checksum-sha256'
  const how = { unhoistableHeaders: new Set([name]) }
  const headers = { [name]: sha256(body) }
  await use('PUT', await url('header', how), { body, headers })
  await use('PUT', await url('header', how), { body: 'another', headers, status: 400 })
  await use('PUT', await url('header', how), { body, status: 403 })
  await holds('header', body)
}

async function refusedUrls() {
  step('altered presigned URLs, and those without permission')
  const url = await presigned(new PutObjectCommand({ Bucket, Key: 'changed', Metadata: { owner: 'me' } }))
  await use('PUT', url.replace('x-amz-meta-owner=me', 'x-amz-meta-owner=you'), { body: 'x', status: 403 })
  await use('PUT', url.replace('x-amz-meta-owner=me&', ''), { body: 'x', status: 403 })
  await use('PUT', `${url}&x-amz-meta-more=1`, { body: 'x', status: 403 })
  await use('PUT', `${url}&x-amz-copy-source=${Bucket}%2Fany`, { status: 403 })
  const open = await presigned(new PutObjectCommand({ Bucket, Key: 'changed', ACL: 'public-read' }))
  assert.ok((await fetch(open, { method: 'PUT', body: 'x' })).status >= 400, 'a list of permissions was dropped')
  const reader = client(process.env.BARGE_S3_READ_KEY, process.env.BARGE_S3_READ_SECRET)
  const copy = new CopyObjectCommand({ Bucket, Key: 'changed', CopySource: `${Bucket}/any` })
  await use('PUT', await getSignedUrl(reader, copy, { expiresIn: 60 }), { status: 403 })
  await absent('changed')
}

async function partsByUrl() {
  step('presigned parts')
  const Key = 'parts'
  const data = randomBytes(12 * MIB)
  await s3.send(new PutObjectCommand({ Bucket, Key: 'tail', Body: data.subarray(10 * MIB) }))
  const begin = await presigned(new CreateMultipartUploadCommand({
    Bucket, Key, Metadata: { owner: 'me' }, Tagging: 'a=1', ContentType: 'text/x-parts',
  }))
  const begun = await use('POST', begin, { headers: { 'content-type': 'text/x-parts' } })
  const [, UploadId] = /<UploadId>(.+)<\/UploadId>/.exec(begun.text)
  const place = { Bucket, Key, UploadId }
  const Parts = await Promise.all([1, 2].map(async (PartNumber) => {
    const body = data.subarray((PartNumber - 1) * 5 * MIB, PartNumber * 5 * MIB)
    const { headers } = await use('PUT', await presigned(new UploadPartCommand({ ...place, PartNumber })), { body })
    return { PartNumber, ETag: headers.get('etag') }
  }))
  const copied = await use('PUT', await presigned(new UploadPartCopyCommand({
    ...place, PartNumber: 3, CopySource: `${Bucket}/tail`, CopySourceRange: `bytes=1000-${2 * MIB - 1}`,
  })))
  Parts.push({ PartNumber: 3, ETag: /<ETag>(.+)<\/ETag>/.exec(copied.text)[1].replaceAll('&quot;', '"') })
  const listed = await s3.send(new ListPartsCommand(place))
  assert.deepEqual(listed.Parts.map((part) => part.Size), [5 * MIB, 5 * MIB, 2 * MIB - 1000])
  const xml = Parts.map((p) => `<Part><PartNumber>${p.PartNumber}</PartNumber><ETag>${p.ETag}</ETag></Part>`).join('')
  await use('POST', await presigned(new CompleteMultipartUploadCommand(place)), {
    body: `<CompleteMultipartUpload xmlns="${XML}">${xml}</CompleteMultipartUpload>`,
  })
  await holds(Key, Buffer.concat([data.subarray(0, 10 * MIB), data.subarray(10 * MIB + 1000)]))
  const stored = await head(Key)
  assert.deepEqual([stored.Metadata, stored.ContentType], [{ owner: 'me' }, 'text/x-parts'])
  assert.deepEqual(await tags(Key), { a: '1' })
  const other = await s3.send(new CreateMultipartUploadCommand({ Bucket, Key }))
  const abort = new AbortMultipartUploadCommand({ Bucket, Key, UploadId: other.UploadId })
  await use('DELETE', await presigned(abort), { status: 204 })
  assert.equal((await s3.send(new ListMultipartUploadsCommand({ Bucket }))).Uploads, undefined)
}

async function copiesByUrl() {
  step('presigned copies')
  const body = randomBytes(50_000)
  const named = { ContentType: 'text/x-source', Metadata: { owner: 'me' }, Tagging: 'a=1' }
  const { ETag } = await s3.send(new PutObjectCommand({ Bucket, Key: 'ä b/source', Body: body, ...named }))
  const CopySource = `${Bucket}/${encodeURIComponent('ä b/source')}`
  const url = (Key, more) => presigned(new CopyObjectCommand({ Bucket, Key, CopySource, ...more }))
  await use('PUT', await url('copy'))
  await holds('copy', body)
  assert.deepEqual([(await head('copy')).Metadata, await tags('copy')], [{ owner: 'me' }, { a: '1' }])
  const replaced = {
    MetadataDirective: 'REPLACE', Metadata: { owner: 'you' }, TaggingDirective: 'REPLACE', Tagging: 'b=2',
  }
  await use('PUT', await url('copy', replaced))
  await holds('copy', body)
  assert.deepEqual([(await head('copy')).Metadata, await tags('copy')], [{ owner: 'you' }, { b: '2' }])
  await use('PUT', await url('conditional', { CopySourceIfMatch: '"0"' }), { status: 412 })
  await absent('conditional')
  await use('PUT', await url('conditional', { CopySourceIfMatch: ETag }))
}

async function readsAndDeletesByUrl() {
  step('presigned reads and deletes')
  const body = randomBytes(60_000)
  await s3.send(new PutObjectCommand({ Bucket, Key: 'read', Body: body, ContentType: 'text/plain', Tagging: 'a=1' }))
  const read = { Bucket, Key: 'read' }
  const plain = await use('GET', await presigned(new GetObjectCommand(read)))
  assert.ok(plain.bytes.equals(body))
  // The SDK requests the checksum in the URL by default.
  assert.equal(plain.headers.get('x-amz-checksum-crc32'), (await head('read')).ChecksumCRC32)
  const ResponseContentDisposition = 'attachment; filename="a b.txt"'
  const other = await use('GET', await presigned(new GetObjectCommand({
    ...read, ResponseContentType: 'text/x-other', ResponseContentDisposition, ResponseCacheControl: 'no-store',
  })))
  assert.equal(other.headers.get('content-type'), 'text/x-other')
  assert.equal(other.headers.get('content-disposition'), ResponseContentDisposition)
  assert.equal(other.headers.get('cache-control'), 'no-store')
  const range = { range: 'bytes=100-199' }
  const some = await use('GET', await presigned(new GetObjectCommand(read)), { headers: range, status: 206 })
  assert.ok(some.bytes.equals(body.subarray(100, 200)))
  const headers = await use('HEAD', await presigned(new HeadObjectCommand(read)))
  assert.equal(headers.headers.get('content-length'), '60000')
  const ObjectAttributes = ['ETag', 'ObjectSize']
  const attributes = await use('GET', await presigned(new GetObjectAttributesCommand({ ...read, ObjectAttributes })))
  assert.match(attributes.text, /<ObjectSize>60000</)
  const change = new PutObjectTaggingCommand({ ...read, Tagging: { TagSet: [{ Key: 'b', Value: '2' }] } })
  // The length of the SDK's document is signed.
  await use('PUT', await presigned(change), {
    body: `${HEAD}<Tagging xmlns="${XML}"><TagSet><Tag><Key>b</Key><Value>2</Value></Tag></TagSet></Tagging>`,
  })
  assert.deepEqual(await tags('read'), { b: '2' })
  await use('DELETE', await presigned(new DeleteObjectCommand(read)), { status: 204 })
  await absent('read')
  // The checksum of the delete request is in the URL and is verified.
  await s3.send(new PutObjectCommand({ Bucket, Key: 'instead', Body: body }))
  const many = new DeleteObjectsCommand({ Bucket, Delete: { Objects: [{ Key: 'nothing' }] } })
  const document = (Key) => `${HEAD}<Delete xmlns="${XML}"><Object><Key>${Key}</Key></Object></Delete>`
  await use('POST', await presigned(many), { body: document('instead'), status: 400 })
  await use('POST', await presigned(many), { body: document('nothing') })
  await head('instead')
}

async function streams() {
  step('streams, there and back')
  const data = randomBytes(3 * MIB)
  const Body = Readable.from([data.subarray(0, MIB), data.subarray(MIB)])
  await s3.send(new PutObjectCommand({ Bucket, Key: 'stream', Body, ContentLength: data.length }))
  await holds('stream', data)
  const { Body: web } = await s3.send(new GetObjectCommand({ Bucket, Key: 'stream', Range: 'bytes=5000-1999999' }))
  assert.ok(Buffer.from(await web.transformToByteArray()).equals(data.subarray(5000, 2_000_000)))

  step('a large file in parts')
  const large = randomBytes(23 * MIB)
  const pieces = Array.from({ length: 23 }, (_, n) => large.subarray(n * MIB, (n + 1) * MIB))
  const params = { Bucket, Key: 'large', Body: Readable.from(pieces), Metadata: { owner: 'me' }, Tagging: 'a=1' }
  const upload = new Upload({ client: s3, params, partSize: 5 * MIB, queueSize: 4 })
  let sent = 0
  upload.on('httpUploadProgress', ({ loaded }) => { sent = Math.max(sent, loaded) })
  await upload.done()
  assert.equal(sent, large.length)
  await holds('large', large)
  const stored = await head('large')
  assert.match(stored.ETag, /-5"$/)
  assert.ok(stored.ChecksumCRC32, 'the checksum of the upload is lost')
  assert.deepEqual([stored.Metadata, await tags('large')], [{ owner: 'me' }, { a: '1' }])
  const second = await s3.send(new GetObjectCommand({ Bucket, Key: 'large', PartNumber: 2 }))
  assert.ok((await buffer(second.Body)).equals(large.subarray(5 * MIB, 10 * MIB)))
}

async function listsAndNames() {
  step('lists, and names that XML cannot hold as they are')
  const odd = ['Icon\r', 'line\nfeed', 'tab\t', 'a&b<c>"d\'', 'a b+c%20', 'ümläut/漢字/😀', 'twice//slash', ' space ']
  const names = [...odd.map((name) => `odd/${name}`), ...Array.from({ length: 30 }, (_, n) => `odd/${n}`)]
  await Promise.all(names.map((Key) => s3.send(new PutObjectCommand({ Bucket, Key, Body: Key }))))
  const listed = []
  for await (const page of paginateListObjectsV2({ client: s3, pageSize: 7 }, { Bucket, Prefix: 'odd/' })) {
    listed.push(...page.Contents.map((entry) => entry.Key))
  }
  assert.deepEqual(listed, [...names].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b))))
  for (const Key of names) await holds(Key, Key)
  const folders = await s3.send(new ListObjectsV2Command({ Bucket, Prefix: 'odd/', Delimiter: '/' }))
  assert.deepEqual(folders.CommonPrefixes.map((p) => p.Prefix), ['odd/twice/', 'odd/ümläut/'])
  const { Deleted, Errors } = await s3.send(new DeleteObjectsCommand({
    Bucket, Delete: { Objects: names.map((Key) => ({ Key })) },
  }))
  assert.deepEqual([Deleted.map((entry) => entry.Key), Errors], [names, undefined])
  assert.equal((await s3.send(new ListObjectsV2Command({ Bucket, Prefix: 'odd/' }))).KeyCount, 0)
}

async function removeBucket() {
  for (const upload of (await s3.send(new ListMultipartUploadsCommand({ Bucket }))).Uploads ?? []) {
    await s3.send(new AbortMultipartUploadCommand({ Bucket, Key: upload.Key, UploadId: upload.UploadId }))
  }
  for await (const page of paginateListObjectsV2({ client: s3 }, { Bucket })) {
    const Objects = (page.Contents ?? []).map(({ Key }) => ({ Key }))
    if (Objects.length > 0) await s3.send(new DeleteObjectsCommand({ Bucket, Delete: { Objects, Quiet: true } }))
  }
  await s3.send(new DeleteBucketCommand({ Bucket }))
}

await s3.send(new CreateBucketCommand({ Bucket }))
try {
  await uploadsByUrl()
  await attributesInUrls()
  await checksumsInUrls()
  await refusedUrls()
  await partsByUrl()
  await copiesByUrl()
  await readsAndDeletesByUrl()
  await streams()
  await listsAndNames()
} finally {
  await removeBucket()
}
await assert.rejects(s3.send(new ListObjectsV2Command({ Bucket })), { name: 'NoSuchBucket' })
step('done')
