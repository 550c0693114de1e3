// Verifies tokens with aws-jwt-verify and prints what one takes in nanoseconds.
//
//   node main.mjs ISSUER AUDIENCE KEYS-FILE MILLISECONDS <tokens
//
// The tokens come one a line. Keys are at hand: nothing is fetched.
import { readFileSync } from "node:fs";
import { JwtVerifier } from "aws-jwt-verify";

const [issuer, audience, keysFile, milliseconds] = process.argv.slice(2);
const tokens = readFileSync(0, "utf8").trim().split("\n");
const verifier = JwtVerifier.create({ issuer, audience, graceSeconds: 60 });
verifier.cacheJwks(JSON.parse(readFileSync(keysFile, "utf8")));

for (const token of tokens) verifier.verifySync(token); // warms up
const began = process.hrtime.bigint();
const end = began + BigInt(milliseconds) * 1_000_000n;
let n = 0;
let now = began;
for (; now < end; now = process.hrtime.bigint()) {
  verifier.verifySync(tokens[n % tokens.length]);
  n++;
}
console.log(JSON.stringify({ ns: Number((now - began) / BigInt(n)) }));
