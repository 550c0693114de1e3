// Package zaplog logs with zap: a logger for each kind of program, and decorators over ports. No line holds a token, a
// claim, a payload or an output.
package zaplog

import (
	"context"
	"io"
	"log/slog"
	"slices"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/ports"
)

// Levels are what LOG_LEVEL can be.
var Levels = []string{"info", "debug", "warn", "error"}

// JSON returns a logger that writes one JSON object a line to w: what log services read.
func JSON(w io.Writer, level string) *zap.Logger {
	enc := zap.NewProductionEncoderConfig()
	enc.TimeKey, enc.EncodeTime = "time", zapcore.RFC3339NanoTimeEncoder
	enc.MessageKey, enc.LevelKey = "message", "level"
	return logger(zapcore.NewJSONEncoder(enc), w, level)
}

// Console returns a logger that writes lines for a person to w.
func Console(w io.Writer, level string) *zap.Logger {
	enc := zap.NewDevelopmentEncoderConfig()
	enc.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
	enc.EncodeLevel = zapcore.LowercaseLevelEncoder
	enc.CallerKey, enc.StacktraceKey = "", ""
	return logger(zapcore.NewConsoleEncoder(enc), w, level)
}

func logger(enc zapcore.Encoder, w io.Writer, level string) *zap.Logger {
	var lvl zapcore.Level
	if err := lvl.Set(level); err != nil {
		lvl = zapcore.InfoLevel
	}
	return zap.New(zapcore.NewCore(enc, zapcore.Lock(zapcore.AddSync(w)), lvl))
}

type contextKey struct{}

// With returns a context whose lines, of the decorators here and of whoever asks From, have the fields as well: what a
// call belongs to that is handed on to many.
func With(ctx context.Context, fields ...zap.Field) context.Context {
	before, _ := ctx.Value(contextKey{}).([]zap.Field)
	return context.WithValue(ctx, contextKey{}, slices.Concat(before, fields))
}

// From returns log with the fields of ctx.
func From(ctx context.Context, log *zap.Logger) *zap.Logger {
	fields, _ := ctx.Value(contextKey{}).([]zap.Field)
	return log.With(fields...)
}

// Attrs returns a function that logs what adapters report with log/slog's attributes.
func Attrs(log *zap.Logger) func(string, ...slog.Attr) {
	return func(msg string, attrs ...slog.Attr) {
		fields := make([]zap.Field, 0, len(attrs))
		for _, a := range attrs {
			fields = append(fields, zap.Any(a.Key, a.Value.Any()))
		}
		log.Warn(msg, fields...)
	}
}

// Dispatcher logs each dispatch that failed.
func Dispatcher(next ports.JobDispatcher, log *zap.Logger) ports.JobDispatcher {
	return dispatcher{next, log}
}

type dispatcher struct {
	ports.JobDispatcher
	log *zap.Logger
}

func (d dispatcher) Dispatch(ctx context.Context, job domain.Job) error {
	err := d.JobDispatcher.Dispatch(ctx, job)
	if err != nil {
		From(ctx, d.log).Error("a job could not be dispatched", append(identity(job), zap.Int("dispatches", job.Dispatches), zap.Error(err))...)
	}
	return err
}

// identity is what joins the lines about a job, and those to its trace.
func identity(job domain.Job) []zap.Field {
	fields := []zap.Field{zap.String("job_id", job.ID), zap.String("job_name", job.Name)}
	if job.TraceParent != "" {
		fields = append(fields, zap.String("traceparent", job.TraceParent))
	}
	return fields
}

// Settled returns a function that logs what each run, or each claim that is no run, came to.
func Settled(log *zap.Logger) func(domain.Job) {
	return func(job domain.Job) {
		fields := append(identity(job), zap.Int("attempts", job.Attempts))
		if job.Reason != "" {
			fields = append(fields, zap.String("reason", string(job.Reason)))
		}
		if n := len(job.History); n > 0 {
			last := job.History[n-1]
			fields = append(fields, zap.Duration("took", last.EndedAt.Sub(last.StartedAt)))
			if last.Error != "" {
				fields = append(fields, zap.String("error", last.Error))
			}
		}
		switch job.Status {
		case domain.Queued:
			log.Warn("job is retried", append(fields, zap.Time("due_at", job.DueAt))...)
		case domain.Dead:
			log.Error("job is dead", fields...)
		default:
			log.Info("job is "+string(job.Status), fields...)
		}
	}
}

// Handler logs the start of each run, and the stack of one that panics. Its end is Settled's.
func Handler(next ports.JobHandler, log *zap.Logger) ports.JobHandler { return handler{next, log} }

type handler struct {
	next ports.JobHandler
	log  *zap.Logger
}

func (h handler) Handle(ctx context.Context, run ports.Run) ([]byte, error) {
	log := From(ctx, h.log).With(append(identity(run.Job), zap.Int("attempt", run.Attempt))...)
	log.Info("run begins")
	defer func() {
		if p := recover(); p != nil {
			log.Error("run panicked", zap.Any("panic", p), zap.Stack("stack"))
			panic(p) // contained by whoever runs the handler, who tells the job's owner no more than that
		}
	}()
	return h.next.Handle(ctx, run)
}

// LogJobs returns the default handler: it logs that the job came and succeeds.
func LogJobs(log *zap.Logger) func(context.Context, ports.Run) ([]byte, error) {
	return func(ctx context.Context, run ports.Run) ([]byte, error) {
		From(ctx, log).Info("job", append(identity(run.Job), zap.Int("payload_bytes", len(run.Job.Payload)))...)
		return nil, nil
	}
}
