// The service that jobgate replaces: Express, express-jwt and jackrabbit. A job is published without being persistent,
// and answered before the broker has confirmed it: a broker that restarts, or a connection that breaks, loses it.
// The key is at hand, so that no request waits for one, and the middleware is no more than what is needed.
import { createPublicKey } from 'node:crypto'
import { readFileSync } from 'node:fs'

import express from 'express'
import { expressjwt } from 'express-jwt'
import jackrabbit from 'jackrabbit'

const { BROKER_URL, QUEUE, KEYS, ISSUER, AUDIENCE } = process.env
const [jwk] = JSON.parse(readFileSync(KEYS, 'utf8')).keys

const exchange = jackrabbit(BROKER_URL).default()
exchange.queue({ name: QUEUE, durable: true })

const app = express()
app.disable('x-powered-by')
app.use('/jobs', expressjwt({
  secret: createPublicKey({ key: jwk, format: 'jwk' }), algorithms: ['RS256'], issuer: ISSUER, audience: AUDIENCE,
}))
app.use(express.json())
app.post('/jobs', (req, res) => {
  exchange.publish({ name: req.body.name }, { key: QUEUE })
  res.sendStatus(201)
})

exchange.once('ready', () => {
  const server = app.listen(0, '127.0.0.1', () => console.log(`listens on http://127.0.0.1:${server.address().port}`))
})
