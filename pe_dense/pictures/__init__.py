"""Drawing for every task: labels, boxes, panels, and the folder that holds a page of them."""
