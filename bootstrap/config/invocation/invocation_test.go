package invocation_test

import (
	"context"
	"testing"

	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/jobgate/jobgate/adapters/zaplog"
	"github.com/jobgate/jobgate/bootstrap/config/invocation"
)

func TestLinesBearTheInvocationAndItsTrace(t *testing.T) {
	t.Parallel()
	invoked := lambdacontext.NewContext(context.Background(), &lambdacontext.LambdaContext{AwsRequestID: "id"})
	traced := func(header string) context.Context {
		return context.WithValue(invoked, "x-amzn-trace-id", header) //nolint:revive,staticcheck // as aws-lambda-go does
	}
	for name, tt := range map[string]struct {
		ctx  context.Context
		want map[string]any
	}{
		"no invocation": {context.Background(), map[string]any{}},
		"no trace":      {invoked, map[string]any{"invocation_id": "id"}},
		"a trace": {
			traced("Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1"),
			map[string]any{"invocation_id": "id", "xray_trace_id": "1-5bef4de7-ad49b0e87f6ef6c87fc2e700"},
		},
		"in another order": {traced("Sampled=0; Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700"), map[string]any{"invocation_id": "id", "xray_trace_id": "1-5bef4de7-ad49b0e87f6ef6c87fc2e700"}},
		"no root":          {traced("Sampled=0"), map[string]any{"invocation_id": "id"}},
	} {
		core, logs := observer.New(zapcore.InfoLevel)
		zaplog.From(invocation.Context(tt.ctx), zap.New(core)).Info("a line")
		if diff := cmp.Diff(tt.want, logs.All()[0].ContextMap()); diff != "" {
			t.Errorf("%s: fields (-want +got):\n%s", name, diff)
		}
	}
}
