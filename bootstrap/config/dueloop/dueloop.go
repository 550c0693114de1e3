// Package dueloop is a pass of the due loop as a Lambda function makes it, each minute, for the tick of a schedule.
package dueloop

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/jobgate/jobgate/domain/jobs"
)

// reserve is what a pass leaves of its invocation, to say what it came to.
const reserve = 2 * time.Second

// Tick makes one pass, which ends before its invocation has to, tells report what it did, and returns the answer to the
// tick. Any number may be under way at once.
func Tick(ctx context.Context, sweep *jobs.Sweep, report func(jobs.Swept), log *zap.Logger) ([]byte, error) {
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-reserve))
		defer cancel()
	}
	swept, err := sweep.Pass(ctx)
	report(swept)
	log.Info("due loop", zap.Int("dispatched", swept.Dispatched), zap.Int("failed", swept.Failed), zap.Int("expired", swept.Expired), zap.Error(err))
	if err != nil {
		return nil, fmt.Errorf("due loop: %w", err)
	}
	return []byte("null"), nil
}
