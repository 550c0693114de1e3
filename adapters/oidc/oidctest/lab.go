package oidctest

import (
	"crypto/rand"
	"crypto/rsa"
	"slices"
	"strings"
	"time"

	"github.com/jobgate/jobgate/adapters/oidc"
	"github.com/jobgate/jobgate/domain"
)

// What a Lab's tokens are for, and the bounds that its tables are made for. The leeway is the largest that settings may
// have, so that a verifier with a clock of its own has minutes to look at every token.
const (
	Audience  = "https://jobgate.example"
	Client    = "client-1"
	Subject   = "alice"
	Leeway    = time.Minute
	LabLeeway = 10 * time.Minute
	MaxToken  = 8 << 10
)

// Claims returns the claims of an issuer's access token that is valid for an hour.
func Claims(issuer string, now time.Time) Object {
	return Object{
		"iss": issuer, "aud": Audience, "sub": Subject, "client_id": Client, "jti": "token-1",
		"iat": now.Unix(), "exp": now.Add(time.Hour).Unix(), "scope": "jobs:submit jobs:read",
	}
}

// A Lab is three issuers and everything that is needed to make tokens that they did not issue. The first two have
// several keys, the third has one. Which of them are trusted, and for what, is for a Table to say.
type Lab struct {
	A, B, C *Issuer
	now     time.Time

	rsa, rs256Only, foreignRSA, strangerRSA Key
	p256, p384, p521, ed, foreignP256       Key
	stranger                                Key
	secret, oldSecret, strangerSecret       Key
	small                                   *rsa.PrivateKey
}

// NewLab returns a lab for tokens that are looked at now, or at most 5 minutes later. The issuers' URLs are for the
// caller to set.
func NewLab(now time.Time) *Lab {
	l := &Lab{
		A: &Issuer{}, B: &Issuer{}, C: &Issuer{}, now: now,
		rsa: NewKey("rsa", "RS256", 0), foreignRSA: NewKey("rsa", "RS256", 1), strangerRSA: NewKey("rsa", "RS256", 2),
		p256: NewKey("p256", "ES256", 0), p384: NewKey("p384", "ES384", 0), p521: NewKey("p521", "ES512", 0),
		ed: NewKey("ed", "EdDSA", 0), foreignP256: NewKey("b-p256", "ES256", 0), stranger: NewKey("p256", "ES256", 0),
		secret: NewKey("", "HS256", 0), oldSecret: NewKey("", "HS256", 0), strangerSecret: NewKey("", "HS256", 0),
		small: must(rsa.GenerateKey(rand.Reader, 1024)), //nolint:gosec // what is to be refused
	}
	l.rs256Only = l.foreignRSA.As("rs256-only", Object{"alg": "RS256", "use": "sig", "key_ops": []string{"verify"}})
	off := l.p256.As("off-curve", Object{"y": l.p256.JWK()["x"]})
	l.A.Publish(slices.Concat([]Key{l.rsa, l.rs256Only, l.p256, l.p384, l.p521, l.ed}, []Key{ // the latter to be skipped
		l.rsa.As("enc", Object{"use": "enc"}),
		l.rsa.As("sign-only", Object{"key_ops": []string{"sign"}}),
		l.rsa.As("e1", Object{"e": "AQ"}),
		l.rsa.As("e2", Object{"e": "Ag"}),
		l.rsa.As("not-base64", Object{"n": "!"}),
		l.rsa.As("mistyped", Object{"n": 5}),
		l.p256.As("wrong-alg", Object{"alg": "ES384"}),
		l.p256.As("wrong-curve", Object{"crv": "P-384"}),
		l.p256.As("koblitz", Object{"crv": "secp256k1"}),
		l.ed.As("x25519", Object{"crv": "X25519"}),
		{ID: "small", Secret: l.small},
		{ID: "oct", Secret: []byte(strings.Repeat("k", 32))},
		off,
	})...)
	l.B.Publish(l.foreignRSA, l.foreignP256)
	l.C.Publish(l.p256)
	return l
}

// Claims returns the claims of a token of issuer A that is to be accepted.
func (l *Lab) Claims() Object { return Claims(l.A.URL, l.now) }

// Valid returns a token that is to be accepted.
func (l *Lab) Valid() string { return l.p256.Sign(nil, l.Claims()) }

// A Class is a kind of attack, or of oddity.
type Class string

// The classes of tokens.
const (
	Accepted    Class = "accepted"     // not hostile, though it may be odd
	Form        Class = "form"         // what is no JWS of JSON objects
	Size        Class = "size"         // too much, or nested too deep
	Header      Class = "header"       // members that a header must not have, or has to
	Injection   Class = "injection"    // a header that says where the key is, or that somebody interprets
	None        Class = "none"         // no signature is asked for
	Confusion   Class = "confusion"    // one algorithm, key or issuer for another
	Signature   Class = "signature"    // not the key's over this text
	Malleable   Class = "malleability" // the same signature or text, written in another way
	ECDSA       Class = "ECDSA"        // numbers at the edge
	Kind        Class = "kind"         // a token, yet for something else
	ClaimValue  Class = "claim"        // values at the edge
	SettingKept Class = "setting"      // what settings ask for besides
)

// A Token is one line of a table.
type Token struct {
	Class  Class
	Name   string        // within its Table
	Source string        // the rule or the flaw that it comes from
	Want   domain.Reason // empty: it is to be accepted
	Raw    string
}

// A Table is tokens whose verdicts hold for a verifier with these settings.
type Table struct {
	Name    string
	Issuers []oidc.Issuer
	Secret  *oidc.SharedSecret // in the place of Issuers
	Tokens  []Token
}

// Verifier returns the verifier that the table is made for. The caller closes it.
func (t Table) Verifier(opts oidc.Options) (*oidc.Verifier, error) {
	if t.Secret != nil {
		return oidc.NewSharedSecretVerifier(*t.Secret, opts)
	}
	return oidc.NewVerifier(t.Issuers, opts)
}

// Tables returns every token there is. The first and by far the largest table is that of a verifier that trusts A and B
// for Audience, with the defaults for everything else.
func (l *Lab) Tables() []Table {
	issuer := func(i *Issuer, change func(*oidc.Issuer)) oidc.Issuer {
		s := oidc.Issuer{Issuer: i.URL, Audience: []string{Audience}, Leeway: LabLeeway}
		if change != nil {
			change(&s)
		}
		return s
	}
	of := func(change func(*oidc.Issuer)) []oidc.Issuer { return []oidc.Issuer{issuer(l.A, change)} }
	secret := func(k Key) string { return string(kind[[]byte](k.Secret)) }
	return []Table{
		{Name: "defaults", Issuers: []oidc.Issuer{issuer(l.A, nil), issuer(l.B, nil)}, Tokens: l.Tokens()},
		{Name: "client ids", Tokens: l.forClients(), Issuers: of(func(i *oidc.Issuer) {
			i.Audience, i.ClientIDs, i.ScopePrefix = nil, []string{Client}, "jobgate/"
		})},
		{Name: "audience and client ids", Tokens: l.forBoth(), Issuers: of(func(i *oidc.Issuer) { i.ClientIDs = []string{Client} })},
		{Name: "ID tokens", Tokens: l.idTokens(), Issuers: of(func(i *oidc.Issuer) {
			i.ClientIDs, i.AcceptIDTokens = []string{Client}, true
		})},
		{Name: "a type of one's own", Tokens: l.typed(), Issuers: of(func(i *oidc.Issuer) { i.Types = []string{"application/Own+JWT"} })},
		{Name: "each issuer with its own", Tokens: l.perIssuer(), Issuers: []oidc.Issuer{
			issuer(l.A, func(i *oidc.Issuer) { i.Algorithms, i.MaxToken = []string{"ES256"}, 2*MaxToken }),
			issuer(l.B, func(i *oidc.Issuer) {
				i.Algorithms, i.Audience, i.MaxToken = []string{"RS256"}, []string{"https://b.example"}, 1000
			}),
		}},
		{Name: "one key", Tokens: l.oneKey(), Issuers: []oidc.Issuer{issuer(l.C, nil)}},
		{Name: "shared secrets", Tokens: l.shared(), Secret: &oidc.SharedSecret{
			Secrets: []string{secret(l.secret), secret(l.oldSecret)}, Audience: []string{Audience}, Leeway: LabLeeway,
		}},
		{Name: "a shared secret that requires little", Tokens: l.lax(), Secret: &oidc.SharedSecret{
			Secrets: []string{secret(l.secret)}, Require: []string{"jti"}, Leeway: LabLeeway,
		}},
	}
}

// Tokens returns the tokens of the first table.
func (l *Lab) Tokens() []Token {
	return slices.Concat(
		Accepted.of(l.accepted()), Form.of(l.forms()), Size.of(l.sizes()), Header.of(l.headers()), Injection.of(l.injections()),
		None.of(l.nones()), Confusion.of(l.confusions()), Signature.of(l.signatures()), Malleable.of(l.malleable()),
		ECDSA.of(l.ecdsaEdges()), Kind.of(l.kinds()), ClaimValue.of(l.claims()),
	)
}

// A row is a Token before it has its class.
type row struct {
	name, source string
	want         domain.Reason
	raw          string
}

func (c Class) of(rows []row) []Token {
	tokens := make([]Token, len(rows))
	for i, r := range rows {
		tokens[i] = Token{c, r.name, r.source, r.want, r.raw}
		if r.want == accepted {
			tokens[i].Class = Accepted
		}
	}
	return tokens
}

const (
	accepted  = domain.Reason("")
	malformed = domain.ReasonInvalidToken
	claims    = domain.ReasonInvalidClaims
	expired   = domain.ReasonTokenExpired
	unsigned  = domain.ReasonInvalidSignature
)
