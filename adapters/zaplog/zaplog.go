// Package zaplog logs with zap: a logger for each kind of program, and decorators over ports. No line holds a token, a
// claim, a payload or an output.
package zaplog

import (
	"context"
	"io"
	"log/slog"
	"time"

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
		d.log.Error("a job could not be dispatched", zap.String("job_id", job.ID), zap.Int("dispatches", job.Dispatches), zap.Error(err))
	}
	return err
}

// Handler logs the start and the end of each run.
func Handler(next ports.JobHandler, log *zap.Logger) ports.JobHandler { return handler{next, log} }

type handler struct {
	next ports.JobHandler
	log  *zap.Logger
}

func (h handler) Handle(ctx context.Context, run ports.Run) ([]byte, error) {
	log := h.log.With(zap.String("job_id", run.Job.ID), zap.String("job_name", run.Job.Name), zap.Int("attempt", run.Attempt))
	if run.Job.TraceParent != "" {
		log = log.With(zap.String("traceparent", run.Job.TraceParent))
	}
	log.Info("run begins")
	begun := time.Now()
	defer func() {
		if p := recover(); p != nil {
			log.Error("run panicked", zap.Any("panic", p), zap.Stack("stack"))
			panic(p) // contained by whoever runs the handler, who tells the job's owner no more than this value
		}
	}()
	output, err := h.next.Handle(ctx, run)
	took := zap.Duration("took", time.Since(begun))
	switch {
	case err == nil:
		log.Info("run succeeded", took)
	case ctx.Err() != nil:
		log.Warn("run failed", took, zap.NamedError("cause", context.Cause(ctx)), zap.Error(err))
	default:
		log.Warn("run failed", took, zap.Bool("permanent", domain.IsPermanent(err)), zap.Error(err))
	}
	return output, err
}

// LogJobs returns the default handler: it logs that the job came and succeeds.
func LogJobs(log *zap.Logger) func(context.Context, ports.Run) ([]byte, error) {
	return func(_ context.Context, run ports.Run) ([]byte, error) {
		log.Info("job", zap.String("job_id", run.Job.ID), zap.String("job_name", run.Job.Name), zap.Int("payload_bytes", len(run.Job.Payload)))
		return nil, nil
	}
}
