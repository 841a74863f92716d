// Uploads FILE to URL with fetch, from a buffer or a stream. Exit 0 only on a status below 300.
import { createReadStream, readFileSync } from 'node:fs'
import { Readable } from 'node:stream'

const [how, path, url] = process.argv.slice(2)
const body = how === 'buffer' ? readFileSync(path) : Readable.toWeb(createReadStream(path))
const answer = await fetch(url, { method: 'PUT', body, duplex: 'half' })
console.log(answer.status)
process.exit(answer.status < 300 ? 0 : 1)
