output "url" {
  description = "Where the API is: POST to this and /jobs."
  value       = var.domain == null ? aws_api_gateway_stage.jobs.invoke_url : trimsuffix("https://${var.domain.name}/${var.domain.base_path}", "/")
}

output "domain_target" {
  description = "What the custom domain's DNS record is an alias of: host name and hosted zone; null without a custom domain."
  value = var.domain == null ? null : {
    name    = aws_api_gateway_domain_name.jobs[0].regional_domain_name
    zone_id = aws_api_gateway_domain_name.jobs[0].regional_zone_id
  }
}

output "api_id" {
  description = "Id of the REST API, for a usage plan or a web ACL of yours."
  value       = aws_api_gateway_rest_api.jobs.id
}

output "stage_arn" {
  description = "ARN of the stage, which a web ACL is associated with."
  value       = aws_api_gateway_stage.jobs.arn
}

output "topic_arn" {
  description = "ARN of the topic of jobs. Further subscribers may filter by the message attribute name."
  value       = aws_sns_topic.jobs.arn
}

output "queue_url" {
  description = "URL of the worker's queue; null with worker_delivery sns."
  value       = one(aws_sqs_queue.jobs[*].url)
}

output "dead_letter_queue_url" {
  description = "URL of the queue of what was given up."
  value       = aws_sqs_queue.dead_letters.url
}

output "dead_letter_queue_arn" {
  description = "ARN of the queue of what was given up: the on-failure destination of event sources of yours."
  value       = aws_sqs_queue.dead_letters.arn
}

output "undelivered_queue_url" {
  description = "URL of the queue of what SNS could not deliver."
  value       = aws_sqs_queue.undelivered.url
}

output "table_name" {
  description = "Name of the table of jobs."
  value       = aws_dynamodb_table.jobs.name
}

output "function_names" {
  description = "Names of the functions auth, jobs and worker."
  value       = { for key, function in aws_lambda_function.function : key => function.function_name }
}

output "worker_arn" {
  description = "ARN of the worker, for event sources of yours."
  value       = aws_lambda_function.function["worker"].arn
}

output "worker_role_name" {
  description = "Name of the worker's role: attach to it what your own handlers and event sources need."
  value       = aws_iam_role.function["worker"].name
}

output "kms_key_arn" {
  description = "ARN of the key that encrypts jobs; null where AWS's own keys do."
  value       = local.kms_key_arn
}

output "alarm_names" {
  description = "Names of the alarms, for a dashboard or a composite alarm of yours."
  value       = [for alarm in aws_cloudwatch_metric_alarm.alarm : alarm.alarm_name]
}
