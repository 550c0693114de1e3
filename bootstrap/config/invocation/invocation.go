// Package invocation says of which invocation of a Lambda function a log line is.
package invocation

import (
	"context"
	"strings"

	"github.com/aws/aws-lambda-go/lambdacontext"
	"go.uber.org/zap"

	"github.com/jobgate/jobgate/adapters/zaplog"
)

// Context returns ctx, of an invocation, for its log lines to bear the invocation's id, which Lambda's own START and END
// lines bear, and the id of the X-Ray trace that it is part of. Elsewhere it returns ctx.
func Context(ctx context.Context) context.Context {
	var fields []zap.Field
	if invocation, ok := lambdacontext.FromContext(ctx); ok {
		fields = append(fields, zap.String("invocation_id", invocation.AwsRequestID))
	}
	if trace := traceID(ctx); trace != "" {
		fields = append(fields, zap.String("xray_trace_id", trace))
	}
	if fields == nil {
		return ctx
	}
	return zaplog.With(ctx, fields...)
}

// traceID returns the root of the trace header that the runtime hands over
// (https://docs.aws.amazon.com/xray/latest/devguide/xray-concepts.html#xray-concepts-tracingheader).
func traceID(ctx context.Context) string {
	header, _ := ctx.Value("x-amzn-trace-id").(string) // the name under which aws-lambda-go has it
	for part := range strings.SplitSeq(header, ";") {
		if root, ok := strings.CutPrefix(strings.TrimSpace(part), "Root="); ok {
			return root
		}
	}
	return ""
}
