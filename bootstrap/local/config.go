package local

import (
	"net"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/jobgate/jobgate/adapters/localgateway"
	"github.com/jobgate/jobgate/adapters/sqlstore"
	"github.com/jobgate/jobgate/bootstrap/auth"
	"github.com/jobgate/jobgate/bootstrap/config"
	"github.com/jobgate/jobgate/bootstrap/config/intake"
	"github.com/jobgate/jobgate/bootstrap/config/runner"
	"github.com/jobgate/jobgate/bootstrap/config/tokens"
	domainjobs "github.com/jobgate/jobgate/domain/jobs"
)

// Config are the settings of the laptop's service.
type Config struct {
	Listen      string
	DataDir     string
	Durability  sqlstore.Durability
	Concurrency int              // jobs running at once
	Drain       time.Duration    // what running jobs get to finish in once the service is told to stop
	Tokens      *tokens.Settings // of other issuers; nil: the built-in provider
	RotateKeys  bool             // the built-in provider's, by this start
	API         intake.Config
	Worker      runner.Config
	TTL         time.Duration // of the gateway's authorizer cache
}

// LoadConfig reads the settings, and returns every mistake in them at once.
func LoadConfig(getenv func(string) string, handlers domainjobs.Handlers) (Config, error) {
	env := config.From(getenv)
	cfg := Config{
		Listen:      env.Address("LISTEN_ADDR", "127.0.0.1:8080"),
		DataDir:     env.String("DATA_DIR", ".jobgate"),
		Concurrency: env.Int("CONCURRENCY", 16, 1000),
		Drain:       env.Duration("DRAIN_TIMEOUT", 20*time.Second),
		TTL:         localgateway.DefaultTTL,
	}
	if host, _, err := net.SplitHostPort(cfg.Listen); err == nil && !loopback(host) {
		env.Wrong("LISTEN_ADDR", "127.0.0.1:8080", "%q is no loopback address: this service prints its users' passwords and is for this machine alone", cfg.Listen)
	}
	if env.OneOf("DURABILITY", "process", "power") == "power" {
		cfg.Durability = sqlstore.Power
	}
	issuers := 1
	if env.String("OIDC_ISSUER", "")+env.String("OIDC_PROVIDERS", "")+env.String("JWT_SECRET", "") != "" {
		t := tokens.Load(env)
		cfg.Tokens, issuers = &t, t.Trusted()
	}
	cfg.Worker = runner.LoadConfig(env, handlers, issuers)
	cfg.API = intake.LoadConfig(env, issuers)
	if dir, err := filepath.Abs(cfg.DataDir); err == nil {
		cfg.DataDir = dir
	}
	return cfg, env.Err()
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

// authConfig is the authorizer's part of the settings, for tokens of the given issuers.
func (c Config) authConfig(t tokens.Settings) auth.Config {
	return auth.Config{Tokens: t, Policy: c.API.Policy, LogLevel: c.API.LogLevel}
}
