# What somebody should look at. A row for each alarm: it goes off when the statistic over the period is above the
# threshold (or below, where it says so), in so many of the last periods.

locals {
  alarm_defaults = {
    statistic    = "Sum"
    percentile   = null
    period       = 300
    periods      = 1
    threshold    = 0
    comparison   = "GreaterThanThreshold"
    missing_data = "notBreaching"
  }

  alarms = merge(
    {
      dead-letters = {
        description = "Jobs were given up, or messages cannot be read: see their attributes in ${aws_sqs_queue.dead_letters.name}."
        namespace   = "AWS/SQS"
        metric      = "ApproximateNumberOfMessagesVisible"
        dimensions  = { QueueName = aws_sqs_queue.dead_letters.name }
        statistic   = "Maximum"
      }
      undelivered = {
        description = "SNS could not deliver messages: see ${aws_sqs_queue.undelivered.name}. The due loop dispatches their jobs again."
        namespace   = "AWS/SQS"
        metric      = "ApproximateNumberOfMessagesVisible"
        dimensions  = { QueueName = aws_sqs_queue.undelivered.name }
        statistic   = "Maximum"
      }
      sns-failed = {
        description = "SNS fails to deliver from ${local.topic_name}."
        namespace   = "AWS/SNS"
        metric      = "NumberOfNotificationsFailed"
        dimensions  = { TopicName = aws_sns_topic.jobs.name }
      }
      sns-lost = {
        description = "SNS could not even put what it failed to deliver into ${aws_sqs_queue.undelivered.name}: look at that queue's policy and key."
        namespace   = "AWS/SNS"
        metric      = "NumberOfNotificationsFailedToRedriveToDlq"
        dimensions  = { TopicName = aws_sns_topic.jobs.name }
      }
      worker-dropped = {
        description = "Lambda dropped calls of the worker that a topic, S3 or EventBridge made."
        namespace   = "AWS/Lambda"
        metric      = "AsyncEventsDropped"
        dimensions  = { FunctionName = local.function_names.worker }
      }
      worker-lost = {
        description = "Lambda could not even put a call of the worker that failed into ${aws_sqs_queue.dead_letters.name}: look at the worker's role and that queue's key."
        namespace   = "AWS/Lambda"
        metric      = "DestinationDeliveryFailures"
        dimensions  = { FunctionName = local.function_names.worker }
      }
      authorizer-latency = {
        description  = "The authorizer is slow; API Gateway gives up after 10 s. Is the issuer slow to give its keys?"
        namespace    = "AWS/Lambda"
        metric       = "Duration"
        dimensions   = { FunctionName = local.function_names.auth }
        statistic    = null
        percentile   = "p99"
        periods      = 3
        threshold    = var.alarm_thresholds.authorizer_latency
        missing_data = "ignore"
      }
      server-errors = {
        description = "The API answers with 5xx."
        namespace   = "AWS/ApiGateway"
        metric      = "5XXError"
        dimensions  = { ApiName = aws_api_gateway_rest_api.jobs.name, Stage = var.stage_name }
        threshold   = var.alarm_thresholds.server_errors
      }
      ticks-missing = {
        description  = "The due loop is not called: delayed jobs and retries wait, and nothing lost is found."
        namespace    = "AWS/Events"
        metric       = "Invocations"
        dimensions   = { RuleName = aws_cloudwatch_event_rule.tick.name }
        threshold    = 1
        comparison   = "LessThanThreshold"
        missing_data = "breaching"
      }
    },
    # The authorizer's own errors are no alarm: refusing a token is one of them.
    { for function in ["jobs", "worker"] : "${function}-errors" => {
      description = "Calls of ${local.function_names[function]} fail: see its log."
      namespace   = "AWS/Lambda"
      metric      = "Errors"
      dimensions  = { FunctionName = local.function_names[function] }
    } },
    { for function, name in local.function_names : "${function}-throttles" => {
      description = "Lambda throttles ${name}: look at its reserved concurrency, and at the account's."
      namespace   = "AWS/Lambda"
      metric      = "Throttles"
      dimensions  = { FunctionName = name }
    } },
    { for queue in aws_sqs_queue.jobs[*].name : "oldest-message" => {
      description = "Messages wait long in ${queue}: the worker does not keep up, or does not run."
      namespace   = "AWS/SQS"
      metric      = "ApproximateAgeOfOldestMessage"
      dimensions  = { QueueName = queue }
      statistic   = "Maximum"
      threshold   = var.alarm_thresholds.oldest_message
    } },
    { for filter in aws_cloudwatch_log_metric_filter.authorizer_faults[*].name : "authorizer-faults" => {
      description = "The authorizer fails or cannot be called, and callers get 503: see its log."
      namespace   = local.metric_namespace
      metric      = filter
      dimensions  = {}
    } },
  )

  metric_namespace = "jobgate/${var.name}"
}

# What the authorizer's errors do not tell apart, the access log does.
resource "aws_cloudwatch_log_metric_filter" "authorizer_faults" {
  count = var.access_logs ? 1 : 0

  name           = "AuthorizerFaults"
  log_group_name = aws_cloudwatch_log_group.access[0].name
  pattern        = "{ $.response_type = \"AUTHORIZER_*\" }"

  metric_transformation {
    name          = "AuthorizerFaults"
    namespace     = local.metric_namespace
    value         = "1"
    default_value = "0"
  }
}

resource "aws_cloudwatch_metric_alarm" "alarm" {
  for_each = { for name, alarm in local.alarms : name => merge(local.alarm_defaults, alarm) }

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.description
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  dimensions          = each.value.dimensions
  statistic           = each.value.statistic
  extended_statistic  = each.value.percentile
  period              = each.value.period
  evaluation_periods  = each.value.periods
  threshold           = each.value.threshold
  comparison_operator = each.value.comparison
  treat_missing_data  = each.value.missing_data
  alarm_actions       = var.alarm_topic_arn == null ? [] : [var.alarm_topic_arn]
  ok_actions          = var.alarm_topic_arn == null ? [] : [var.alarm_topic_arn]
  tags                = var.tags
}
