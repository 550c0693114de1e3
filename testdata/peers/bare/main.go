// Command bare is the least that can be called a job intake: a handler of net/http that verifies the bearer token and
// has the broker confirm the job before it answers. It keeps no record, decides nothing about the caller but that the token
// is good, and knows no idempotency. Its queue is of the kind that jobgate's is, so that the broker promises both the
// same: a job that is confirmed is on disk.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"strings"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
	amqp "github.com/rabbitmq/amqp091-go"
)

func main() {
	broker := flag.String("broker", "", "amqp:// URL")
	queue := flag.String("queue", "", "name of the queue, which is declared")
	keys := flag.String("keys", "", "file with the issuer's key set")
	issuer := flag.String("issuer", "", "of the tokens")
	audience := flag.String("audience", "", "of the tokens")
	flag.Parse()

	text, err := os.ReadFile(*keys)
	check(err)
	keySet, err := keyfunc.NewJWKSetJSON(text)
	check(err)
	parser := jwt.NewParser(jwt.WithValidMethods([]string{"RS256"}), jwt.WithIssuer(*issuer), jwt.WithAudience(*audience), jwt.WithExpirationRequired())

	conn, err := amqp.Dial(*broker)
	check(err)
	ch, err := conn.Channel()
	check(err)
	_, err = ch.QueueDeclare(*queue, true, false, false, false, amqp.Table{"x-queue-type": "quorum"})
	check(err)
	check(ch.Confirm(false))

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	fmt.Printf("listens on http://%s\n", listener.Addr())
	http.HandleFunc("POST /jobs", func(w http.ResponseWriter, r *http.Request) {
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if _, err := parser.Parse(token, keySet.Keyfunc); err != nil {
			http.Error(w, "unauthorized", http.StatusUnauthorized)
			return
		}
		var job struct {
			Name string `json:"name"`
		}
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<18)).Decode(&job); err != nil || job.Name == "" {
			http.Error(w, "bad request", http.StatusBadRequest)
			return
		}
		message, err := json.Marshal(job)
		check(err)
		confirm, err := ch.PublishWithDeferredConfirm("", *queue, false, false, amqp.Publishing{
			DeliveryMode: amqp.Persistent, ContentType: "application/json", Body: message,
		})
		if err != nil {
			http.Error(w, "unavailable", http.StatusServiceUnavailable)
			return
		}
		if ok, err := confirm.WaitContext(r.Context()); err != nil || !ok {
			http.Error(w, "unavailable", http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusCreated)
	})
	log.Fatal(http.Serve(listener, nil))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
