// The hello function greets whoever the event names, and fails in every way a function can.
package main

import (
	"context"
	"errors"
	"log"
	"net/http"
	"os"
	"strings"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

type event struct {
	Name string `json:"name"`
}

type greeting struct {
	Hello      string `json:"hello"`
	RequestID  string `json:"requestId"`
	ARN        string `json:"arn"`
	HomeIsSet  bool   `json:"homeIsSet"`
	DeadlineMs int64  `json:"deadlineMs"`
}

func greet(ctx context.Context, e event) (greeting, error) {
	log.Printf("greeting %s", e.Name)
	switch e.Name {
	case "nobody":
		return greeting{}, errors.New("Unauthorized")
	case "panic":
		panic("on the floor")
	case "exit":
		os.Exit(4)
	case "hang":
		select {}
	case "large":
		return greeting{Hello: strings.Repeat("x", 6<<20)}, nil
	}
	call, _ := lambdacontext.FromContext(ctx)
	deadline, _ := ctx.Deadline()
	_, home := os.LookupEnv("HOME")
	return greeting{e.Name, call.AwsRequestID, call.InvokedFunctionArn, home, deadline.UnixMilli()}, nil
}

func main() {
	switch os.Getenv("HELLO_INIT") {
	case "exit":
		log.Print("no greeting configured")
		os.Exit(3)
	case "report":
		url := "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") + "/2018-06-01/runtime/init/error"
		body := strings.NewReader(`{"errorType":"Config","errorMessage":"no greeting configured"}`)
		if _, err := http.Post(url, "application/json", body); err != nil {
			log.Fatal(err)
		}
		select {}
	case "sigterm":
		bye := func() {
			log.Print("good bye")
			os.Exit(0)
		}
		lambda.StartWithOptions(greet, lambda.WithEnableSIGTERM(bye))
	}
	lambda.Start(greet)
}
