// A TOKEN authorizer in Node as far as its first poll of Lambda's Runtime API: what its cold start is beside Lambda's own part.
import { readFileSync } from "node:fs";
import { get } from "node:http";
import { JwtVerifier } from "aws-jwt-verify";

const verifier = JwtVerifier.create({
  issuer: process.env.OIDC_ISSUER,
  audience: process.env.OIDC_AUDIENCE,
  graceSeconds: 60,
});
verifier.cacheJwks(JSON.parse(readFileSync(process.env.OIDC_JWKS_FILE, "utf8")));
get(`http://${process.env.AWS_LAMBDA_RUNTIME_API}/2018-06-01/runtime/invocation/next`, (answer) => answer.resume());
