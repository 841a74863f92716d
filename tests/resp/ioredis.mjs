// ioredis as it is: its checks at the start, values, conditions, pipelines, scans as a stream, an error.
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { createRequire } from 'node:module'

const require = createRequire(`${process.env.BARGE_NODE_PACKAGES}/package.json`)
const { Redis } = require('ioredis')

const redis = new Redis({ port: Number(process.env.BARGE_RESP_PORT), maxRetriesPerRequest: 1 })
await new Promise((resolve, reject) => redis.once('ready', resolve).once('error', reject))
const digest = (bytes) => createHash('sha256').update(bytes).digest('hex')
const large = randomBytes(20 << 20)
assert.equal(await redis.set('io/value', large), 'OK')
assert.equal(digest(await redis.getBuffer('io/value')), digest(large))
assert.equal(await redis.set('io/value', 'x', 'NX'), null)
assert.equal(await redis.set('io/value', 'x', 'XX'), 'OK')
assert.equal(await redis.get('io/none'), null)
assert.deepEqual(await redis.mget('io/value', 'io/none'), ['x', null])

const pipeline = redis.pipeline()
for (let n = 0; n < 100; n++) pipeline.set(`io/p/${n}`, `${n}`).get(`io/p/${n}`)
const answers = (await pipeline.exec()).map(([error, answer]) => { assert.equal(error, null); return answer })
assert.deepEqual(answers, Array.from({ length: 200 }, (_, n) => (n % 2 ? `${(n - 1) / 2}` : 'OK')))

const found = new Set()
for await (const keys of redis.scanStream({ match: 'io/p/*', count: 7 })) keys.forEach((key) => found.add(key))
assert.equal(found.size, 100)
assert.equal(await redis.del(...found), 100)
await assert.rejects(redis.append('io/value', 'y'), /is not supported/)
assert.equal(await redis.strlen('io/value'), 1)
await redis.quit()
console.log('passed')
