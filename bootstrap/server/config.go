package server

import (
	"path/filepath"
	"strings"
	"time"

	"github.com/jobgate/jobgate/adapters/rabbitmq"
	"github.com/jobgate/jobgate/adapters/sqlstore"
	"github.com/jobgate/jobgate/bootstrap/config"
	"github.com/jobgate/jobgate/bootstrap/config/intake"
	"github.com/jobgate/jobgate/bootstrap/config/runner"
	"github.com/jobgate/jobgate/bootstrap/config/tokens"
	"github.com/jobgate/jobgate/domain/jobs"
)

// Roles are which part of the service a process is: all of it, the API alone, or the worker alone.
const (
	roleAll    = "all"
	roleAPI    = "api"
	roleWorker = "worker"
)

// Config are the settings of a server.
type Config struct {
	Role        string
	Listen      string
	Store       config.Secret // URL, which may have a password in it
	Broker      config.Secret // URL; empty: the store is the queue
	LegacyQueue string        // of another program, to take jobs from as well
	Durability  sqlstore.Durability
	Concurrency int
	Metrics     string // address that they are served at; empty: nowhere
	Tracing     Tracing
	Drain       time.Duration
	Tokens      tokens.Settings // of an API
	API         intake.Config
	Worker      runner.Config
}

// LoadConfig reads the settings of a role, and returns every mistake in them at once.
func LoadConfig(getenv func(string) string, role string, handlers jobs.Handlers) (Config, error) {
	env := config.From(getenv)
	cfg := Config{
		Role:        role,
		Listen:      env.Address("LISTEN_ADDR", "127.0.0.1:8080"),
		Broker:      config.Secret(env.String("BROKER_URL", "")),
		LegacyQueue: env.String("LEGACY_QUEUE", ""),
		Concurrency: env.Int("CONCURRENCY", 16, 1000),
		Drain:       env.Duration("DRAIN_TIMEOUT", 20*time.Second),
	}
	if role != roleAll && role != roleAPI && role != roleWorker {
		env.Wrong("-role", roleAll, "%q is none of all, api and worker", role)
	}
	store := env.String("STORE_URL", "sqlite:"+filepath.Join(env.String("DATA_DIR", ".jobgate"), "jobs.sqlite"))
	if !hasPrefix(store, "sqlite:", "postgres://", "postgresql://") {
		env.Wrong("STORE_URL", "postgres://jobgate@db.example.com/jobgate", "is neither a sqlite: nor a postgres:// URL")
	}
	cfg.Store = config.Secret(store)
	if cfg.Broker != "" && !hasPrefix(string(cfg.Broker), "amqp://", "amqps://") {
		env.Wrong("BROKER_URL", "amqps://jobgate@mq.example.com/", "is no amqp:// or amqps:// URL")
	}
	if cfg.LegacyQueue != "" && cfg.Broker == "" {
		env.Wrong("LEGACY_QUEUE", "", "is a queue of a broker, and BROKER_URL is not set")
	}
	if env.String("METRICS_ADDR", "") != "" {
		cfg.Metrics = env.Address("METRICS_ADDR", "127.0.0.1:9090")
	}
	cfg.Tracing = loadTracing(env)
	if env.OneOf("DURABILITY", "process", "power") == "power" {
		cfg.Durability = sqlstore.Power
	}
	issuers := 1
	if role != roleWorker {
		cfg.Tokens = tokens.Load(env)
		issuers = cfg.Tokens.Trusted()
	}
	cfg.API = intake.LoadConfig(env, issuers)
	cfg.Worker = runner.LoadConfig(env, handlers, issuers)
	for _, rule := range cfg.API.Retries {
		if cfg.Broker != "" && rule.Policy.Timeout > rabbitmq.MaxRunTimeout {
			env.Wrong("RETRY_POLICIES", "", "%s: with a broker a run lasts at most %v, or the broker takes its message back", rule.Jobs, rabbitmq.MaxRunTimeout)
		}
	}
	return cfg, env.Err()
}

func hasPrefix(s string, prefixes ...string) bool {
	for _, prefix := range prefixes {
		if strings.HasPrefix(s, prefix) {
			return true
		}
	}
	return false
}
