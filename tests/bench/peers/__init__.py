"""Small services as their documentation builds them. All have the same door:

    POST /tasks        takes any body, submits a task that does nothing but look at the clock; 202 and its id
    GET /tasks/<id>    when it was begun, in seconds since the epoch, or null

and each module offers what is needed to measure it:

    prepare()          make what must be there before
    fill(number)       submit tasks without the door
    finished()         how many have ended and have a result

They find their servers in the variables PEER_BROKER_URL, PEER_REDIS_URL and PEER_DATABASE_URL.
"""
