// Package tokens reads the settings that say whose tokens are accepted, and makes the verifier of them. It is apart
// from config so that only programs that verify tokens link a verifier.
package tokens

import (
	"time"

	"github.com/jobgate/jobgate/adapters/oidc"
	"github.com/jobgate/jobgate/adapters/wire/strictjson"
	"github.com/jobgate/jobgate/bootstrap/config"
)

const (
	issuerExample    = "https://id.example.com/"
	providersExample = `[{"issuer":"https://id.example.com/","audience":["jobgate"]}]`
	secretExample    = "./jwt.secret" //nolint:gosec // a path
	maxToken         = 16 << 10

	// remembered is how many verified tokens are remembered: those of more callers than one process serves within the life
	// of a token, in 6 MiB at most and 1.5 MiB as a rule.
	remembered = 4096
)

// Settings are the issuers whose tokens are accepted, or the secret shared with the one that is.
type Settings struct {
	Issuers []oidc.Issuer
	Shared  *oidc.SharedSecret
}

// Load reads the settings from OIDC_ISSUER and its companions, from OIDC_PROVIDERS, or from JWT_SECRET: exactly one of
// the three. What is wrong with them is recorded in env.
func Load(env *config.Env) Settings {
	var s Settings
	var modes []string
	for _, name := range []string{"OIDC_ISSUER", "OIDC_PROVIDERS", "JWT_SECRET"} {
		if env.String(name, "") != "" {
			modes = append(modes, name)
		}
	}
	switch {
	case len(modes) == 0:
		env.Wrong("OIDC_ISSUER", issuerExample, "is not set, and neither is OIDC_PROVIDERS or JWT_SECRET: nobody could log in")
		return s
	case len(modes) > 1:
		env.Wrong(modes[1], "", "cannot be set together with %s: a shared secret stands beside no issuer, and one way of naming issuers suffices", modes[0])
		return s
	}
	switch modes[0] {
	case "OIDC_ISSUER":
		s.Issuers = []oidc.Issuer{single(env)}
	case "OIDC_PROVIDERS":
		s.Issuers = providers(env)
	default:
		if s.Shared = shared(env); len(s.Shared.Secrets) == 0 {
			return s // why is said already
		}
	}
	verifier, err := s.Verifier(oidc.Options{})
	if err != nil {
		report(env, modes[0], err)
		return s
	}
	_ = verifier.Close() // it has done nothing yet
	return s
}

// Trusted is how many issuers are accepted.
func (s Settings) Trusted() int { return max(1, len(s.Issuers)) }

// Verifier returns the verifier that the settings ask for, which remembers tokens. It does no I/O.
func (s Settings) Verifier(opts oidc.Options) (*oidc.Verifier, error) {
	opts.Remember = remembered
	if s.Shared != nil {
		return oidc.NewSharedSecretVerifier(*s.Shared, opts)
	}
	return oidc.NewVerifier(s.Issuers, opts)
}

func report(env *config.Env, name string, err error) {
	example := map[string]string{"OIDC_ISSUER": issuerExample, "OIDC_PROVIDERS": providersExample, "JWT_SECRET": secretExample}[name]
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			env.Wrong(name, example, "%v", e)
		}
		return
	}
	env.Wrong(name, example, "%v", err)
}

func single(env *config.Env) oidc.Issuer {
	return oidc.Issuer{
		Issuer: env.String("OIDC_ISSUER", ""), Audience: env.List("OIDC_AUDIENCE"), ClientIDs: env.List("OIDC_CLIENT_IDS"),
		Algorithms: env.List("OIDC_ALGORITHMS"), JWKSURL: env.String("OIDC_JWKS_URL", ""), JWKSFile: env.String("OIDC_JWKS_FILE", ""),
		Types: env.List("OIDC_TYP"), ScopeClaims: env.List("OIDC_SCOPE_CLAIMS"), ScopePrefix: env.String("OIDC_SCOPE_PREFIX", ""),
		AcceptIDTokens: env.Bool("OIDC_ACCEPT_ID_TOKENS", false), Leeway: env.Duration("OIDC_LEEWAY", time.Minute),
		Refresh: env.Duration("OIDC_REFRESH", 15*time.Minute), MaxStale: env.Duration("OIDC_MAX_STALE", 24*time.Hour),
		MaxToken: int(env.Bytes("OIDC_MAX_TOKEN", 8<<10, maxToken)), KeepClaims: env.List("OIDC_KEEP_CLAIMS"),
	}
}

// provider is one element of OIDC_PROVIDERS: a member for each OIDC_ setting.
type provider struct {
	Issuer         string   `json:"issuer"`
	Audience       []string `json:"audience"`
	ClientIDs      []string `json:"client_ids"`
	Algorithms     []string `json:"algorithms"`
	JWKSURL        string   `json:"jwks_url"`
	JWKSFile       string   `json:"jwks_file"`
	Types          []string `json:"typ"`
	ScopeClaims    []string `json:"scope_claims"`
	ScopePrefix    string   `json:"scope_prefix"`
	AcceptIDTokens bool     `json:"accept_id_tokens"`
	Leeway         string   `json:"leeway"`
	Refresh        string   `json:"refresh"`
	MaxStale       string   `json:"max_stale"`
	MaxToken       int      `json:"max_token"`
	KeepClaims     []string `json:"keep_claims"`
}

func providers(env *config.Env) []oidc.Issuer {
	const name = "OIDC_PROVIDERS"
	var list []provider
	if err := strictjson.Decode([]byte(env.Text(name, providersExample)), &list); err != nil {
		env.Wrong(name, providersExample, "%v", err)
		return nil
	}
	if len(list) == 0 {
		env.Wrong(name, providersExample, "names no issuer")
	}
	duration := func(i int, member, text string, fallback time.Duration) time.Duration {
		if text == "" {
			return fallback
		}
		d, err := time.ParseDuration(text)
		if err != nil {
			env.Wrong(name, providersExample, "[%d] %s: %q is no duration", i, member, text)
		}
		return d
	}
	var issuers []oidc.Issuer
	for i, p := range list {
		issuers = append(issuers, oidc.Issuer{
			Issuer: p.Issuer, Audience: p.Audience, ClientIDs: p.ClientIDs, Algorithms: p.Algorithms, JWKSURL: p.JWKSURL, JWKSFile: p.JWKSFile,
			Types: p.Types, ScopeClaims: p.ScopeClaims, ScopePrefix: p.ScopePrefix, AcceptIDTokens: p.AcceptIDTokens,
			Leeway: duration(i, "leeway", p.Leeway, time.Minute), Refresh: duration(i, "refresh", p.Refresh, 0),
			MaxStale: duration(i, "max_stale", p.MaxStale, 0), MaxToken: p.MaxToken, KeepClaims: p.KeepClaims,
		})
	}
	return issuers
}

func shared(env *config.Env) *oidc.SharedSecret {
	s := &oidc.SharedSecret{
		AllowShort: env.Bool("JWT_ALLOW_SHORT_SECRET", false), Require: env.List("JWT_REQUIRE"),
		Audience: env.List("OIDC_AUDIENCE"), Types: env.List("OIDC_TYP"), ScopeClaims: env.List("OIDC_SCOPE_CLAIMS"),
		ScopePrefix: env.String("OIDC_SCOPE_PREFIX", ""), Leeway: env.Duration("OIDC_LEEWAY", time.Minute),
		MaxToken: int(env.Bytes("OIDC_MAX_TOKEN", 8<<10, maxToken)), KeepClaims: env.List("OIDC_KEEP_CLAIMS"),
	}
	for _, secret := range env.Secrets("JWT_SECRET", secretExample) {
		s.Secrets = append(s.Secrets, string(secret))
	}
	return s
}
